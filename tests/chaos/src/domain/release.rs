// The parts of the domain common to both releases. The including module defines `Deposited`.

use std::sync::Arc;
use std::time::Duration;

use es_core::feed::Feed;
use es_core::serde::{Deserialize, Serialize};
use es_postgres::{PostgresStore, SqlReadModel, sqlx};

use super::{Deposit, Refusal, Summary, TakeHandle, Total, Withdraw, bonus_account, digest, earns_bonus};

/// The time between a bonus and its confirmation.
const CONFIRMATION: Duration = Duration::from_millis(300);

/// Money was withdrawn.
#[event]
pub(crate) struct Withdrawn {
    pub(crate) note: String,
}

/// The account took a handle, which is unique among accounts.
#[event]
pub(crate) struct HandleTaken {
    pub(crate) handle: String,
    pub(crate) note: String,
}

/// An account, with a snapshot every seven events.
#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(
    name = "account",
    id = String,
    events(Deposited, Withdrawn, HandleTaken),
    snapshot(every = 7)
)]
pub(crate) struct Account {
    summary: Summary,
}

impl super::Account for Account {
    fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Apply<Deposited> for Account {
    fn apply(&mut self, event: &Deposited) {
        self.summary.cents += event.cents;
        self.summary.digest = digest(self.summary.digest, &event.note);
    }
}

impl Apply<Withdrawn> for Account {
    fn apply(&mut self, event: &Withdrawn) {
        self.summary.cents -= 1;
        self.summary.digest = digest(self.summary.digest, &event.note);
    }
}

impl Apply<HandleTaken> for Account {
    fn apply(&mut self, event: &HandleTaken) {
        self.summary.handle = Some(event.handle.clone());
        self.summary.digest = digest(self.summary.digest, &event.note);
    }
}

impl Handle<Deposit> for Account {
    type Error = Refusal;

    fn handle(&self, command: &Deposit, _: &Context<Self>) -> Result<Events<Self>, Refusal> {
        Ok(command.notes.iter().map(|note| Deposited::new(1, note.clone())).collect())
    }
}

impl Handle<Withdraw> for Account {
    type Error = Refusal;

    fn handle(&self, command: &Withdraw, _: &Context<Self>) -> Result<Events<Self>, Refusal> {
        if command.notes.len() as u64 > self.summary.cents {
            return Err(Refusal { cents: self.summary.cents });
        }
        Ok(command.notes.iter().map(|note| Withdrawn { note: note.clone() }).collect())
    }
}

impl Handle<TakeHandle> for Account {
    type Error = Refusal;

    fn handle(&self, command: &TakeHandle, _: &Context<Self>) -> Result<Events<Self>, Refusal> {
        if self.summary.handle.as_ref() == Some(&command.handle) {
            return Ok(Events::none());
        }
        let taken = HandleTaken { handle: command.handle.clone(), note: command.note.clone() };
        let mut events = Events::from(taken);
        if let Some(old) = &self.summary.handle {
            events = events.release("handle", old);
        }
        Ok(events.claim("handle", &command.handle))
    }
}

/// Sums the deposits of each account.
#[derive(Clone, Projection)]
#[projection(name = "totals", events(Account(Deposited)))]
pub(crate) struct Totals {
    #[read_model]
    pub(crate) rows: ReadModel<Total>,
}

impl Project<Deposited> for Totals {
    async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let account = ctx.id().to_owned();
        let total = self.rows.get(&account).await?;
        let total = total.unwrap_or(Total { account, deposits: 0, cents: 0, digest: 0 });
        self.rows.put(Total {
            deposits: total.deposits + 1,
            cents: total.cents + event.cents,
            digest: digest(total.digest, &event.note),
            ..total
        })?;
        Ok(())
    }
}

/// Books the deposits in tables of PostgreSQL, with statements that are not idempotent.
#[derive(Clone, Projection)]
#[projection(name = "ledger", events(Account(Deposited)))]
pub(crate) struct Ledger {
    #[read_model]
    pub(crate) tables: SqlReadModel,
}

impl Project<Deposited> for Ledger {
    async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let book = "WITH booked AS (INSERT INTO deposits (account, note) VALUES ($1, $2)) \
                    INSERT INTO balances VALUES ($1, $3) \
                    ON CONFLICT (account) DO UPDATE SET cents = balances.cents + excluded.cents";
        let query = sqlx::query(book).bind(ctx.id()).bind(&event.note).bind(event.cents as i64);
        query.execute(self.tables.transaction().await?).await?;
        Ok(())
    }
}

/// A bonus was paid.
#[event]
pub(crate) struct Granted {
    pub(crate) note: String,
}

/// The confirmation of a bonus is due.
#[event]
pub(crate) struct Confirmed {
    pub(crate) note: String,
}

/// The bonuses of one account, which get as many as a run is long.
#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(name = "bonuses", id = String, events(Granted, Confirmed), snapshot(every = 7))]
pub(crate) struct Bonuses {}

impl Apply<Granted> for Bonuses {
    fn apply(&mut self, _: &Granted) {}
}

impl Apply<Confirmed> for Bonuses {
    fn apply(&mut self, _: &Confirmed) {}
}

/// Pays a bonus for some deposits, and confirms each some time later.
#[derive(Clone, Process)]
#[process(name = "bonuses", state = Bonuses, events(Account(Deposited)), timeouts(Confirmed))]
pub(crate) struct GrantBonuses {
    accounts: Repository<Account>,
}

impl React<Deposited> for GrantBonuses {
    fn instance(&self, event: &Deposited, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(earns_bonus(ctx.id(), &event.note).then(|| ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Deposited,
        reaction: &mut Reaction<'_, Bonuses>,
    ) -> Result<Events<Bonuses>, BoxError> {
        let account = bonus_account(reaction.id());
        let bonus = Deposit { notes: vec![event.note.clone()] };
        reaction.execute(&self.accounts, &account, bonus).await?;
        reaction.schedule(CONFIRMATION, Confirmed { note: event.note.clone() })?;
        Ok(Granted { note: event.note.clone() }.into())
    }
}

impl React<Confirmed> for GrantBonuses {
    fn instance(&self, _: &Confirmed, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Confirmed,
        _: &mut Reaction<'_, Bonuses>,
    ) -> Result<Events<Bonuses>, BoxError> {
        Ok(event.clone().into())
    }
}

/// This release.
pub(crate) struct Code;

impl super::Release for Code {
    type Account = Account;
    type Totals = Totals;
    type Bonuses = GrantBonuses;
    type Ledger = Ledger;

    fn totals(feed: &Arc<dyn Feed>) -> Totals {
        Totals { rows: ReadModel::of::<Totals>(feed) }
    }

    fn bonuses(accounts: Repository<Account>) -> GrantBonuses {
        GrantBonuses { accounts }
    }

    fn ledger(store: &PostgresStore) -> Ledger {
        let tables = "CREATE TABLE deposits (n bigint GENERATED ALWAYS AS IDENTITY, account text, note text); \
                      CREATE TABLE balances (account text PRIMARY KEY, cents bigint)";
        Ledger { tables: SqlReadModel::of::<Ledger>(store, tables) }
    }
}
