//! disintegrate on disintegrate-postgres, with a decision maker and an event listener.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use disintegrate::serde::json::Json;
use disintegrate::{
    Decision, EventListener, EventSourcedStateStore, LoadState, NoSnapshot, PersistedEvent, StateMutate,
    StateQuery, StreamQuery, query,
};
use disintegrate_postgres::{
    PgDecisionMaker, PgEventId, PgEventListener, PgEventListenerConfig, PgEventStore, decision_maker,
};
use serde::{Deserialize, Serialize};

use super::{Contender, Delivered, Subscription};
use crate::Failure;
use crate::domain::{Account, Deposited};
use crate::server::Database;

/// The interval at which a listener polls, in addition to its notifications.
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, disintegrate::Event, Serialize, Deserialize)]
pub enum AccountEvent {
    Deposited {
        #[id]
        account_id: String,
        cents: u64,
        note: String,
    },
}

impl AccountEvent {
    fn new(account_id: &str, Deposited { cents, note }: Deposited) -> Self {
        Self::Deposited { account_id: account_id.to_owned(), cents, note }
    }
}

#[derive(Clone, Default, StateQuery, Serialize, Deserialize)]
#[state_query(AccountEvent)]
struct AccountState {
    #[id]
    account_id: String,
    account: Account,
}

impl StateMutate for AccountState {
    fn mutate(&mut self, event: AccountEvent) {
        let AccountEvent::Deposited { cents, note, .. } = event;
        self.account.add(&Deposited { cents, note });
    }
}

fn state(id: &str) -> AccountState {
    AccountState { account_id: id.to_owned(), ..AccountState::default() }
}

struct Deposit {
    account_id: String,
    times: u64,
}

impl Decision for Deposit {
    type Event = AccountEvent;
    type StateQuery = AccountState;
    type Error = Infallible;

    fn state_query(&self) -> AccountState {
        state(&self.account_id)
    }

    fn process(&self, _: &AccountState) -> Result<Vec<AccountEvent>, Infallible> {
        let deposits = super::deposits(self.times);
        Ok(deposits.events().map(|deposited| AccountEvent::new(&self.account_id, deposited)).collect())
    }
}

type Store = PgEventStore<AccountEvent, Json<AccountEvent>>;

pub struct Disintegrate {
    decisions: PgDecisionMaker<AccountEvent, Json<AccountEvent>, NoSnapshot>,
    states: EventSourcedStateStore<PgEventId, AccountEvent, Store, NoSnapshot>,
    store: Store,
    delivered: Delivered,
}

impl Disintegrate {
    pub async fn open(url: &str, connections: u32, delivered: Delivered) -> Result<Self, Failure> {
        let store = Store::new_uninitialized(super::peer_pool(url, connections).await?, Json::default());
        let states = EventSourcedStateStore::new(store.clone(), NoSnapshot);
        Ok(Self { decisions: decision_maker(store.clone(), NoSnapshot), states, store, delivered })
    }
}

#[async_trait]
impl Contender for Disintegrate {
    /// A decision that fails because others were made at the same time is repeated, as its documentation asks for.
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.decisions.make(Deposit { account_id: id.to_owned(), times: events }).await {
                Ok(_) => return Ok(()),
                Err(error) if attempts == 100 => return Err(error.into()),
                Err(error) if is_concurrency(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        let loaded = self.states.load(state(id)).await?;
        Ok(loaded.state().account.clone())
    }

    fn subscribe(&self, poll: Option<Duration>) -> Option<Subscription> {
        let listener = Deliveries { query: query!(AccountEvent), delivered: self.delivered.clone() };
        let config = PgEventListenerConfig::poller(poll.unwrap_or(POLL));
        let config = if poll.is_none() { config.with_notifier() } else { config };
        let listener = PgEventListener::builder(self.store.clone()).register_listener(listener, config);
        Subscription::start(async move {
            if let Err(error) = listener.start().await {
                eprintln!("the listener has stopped: {error}");
            }
        })
    }
}

/// Returns whether an error is a conflict, or a serialization failure of the server.
fn is_concurrency(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref() {
            Some(disintegrate_postgres::Error::Concurrency) => return true,
            Some(disintegrate_postgres::Error::Database(error)) => {
                let refused = error.as_database_error();
                return refused.is_some_and(|refused| refused.code().as_deref() == Some("40001"));
            }
            _ => next = error.source(),
        }
    }
    false
}

struct Deliveries {
    query: StreamQuery<PgEventId, AccountEvent>,
    delivered: Delivered,
}

#[async_trait]
impl EventListener<PgEventId, AccountEvent> for Deliveries {
    type Error = Infallible;

    fn id(&self) -> &'static str {
        "deliveries"
    }

    fn query(&self) -> &StreamQuery<PgEventId, AccountEvent> {
        &self.query
    }

    async fn handle(&self, event: PersistedEvent<PgEventId, AccountEvent>) -> Result<(), Infallible> {
        let AccountEvent::Deposited { account_id, .. } = event.into_inner();
        self.delivered.push(&account_id);
        Ok(())
    }
}

/// A function of the library with a literal that PostgreSQL understands since version 16. The literal is decimal here.
const BEGIN_EPOCH: &str = "CREATE OR REPLACE FUNCTION event_store_begin_epoch() RETURNS void AS $$ \
     DECLARE \
         id BIGINT; \
         db_id INT; \
     BEGIN \
         SELECT last_value INTO id FROM seq_event_event_id; \
         SELECT oid INTO db_id FROM pg_database WHERE datname = current_database(); \
         PERFORM pg_try_advisory_xact_lock_shared(db_id, 0); \
         PERFORM pg_try_advisory_xact_lock_shared(1, (id & 4294967295)::bit(32)::integer); \
         PERFORM pg_try_advisory_xact_lock_shared(2, (id >> 32)::bit(32)::integer); \
     END; \
     $$ LANGUAGE plpgsql";

pub async fn create(database: &Database) -> Result<(), Failure> {
    database.execute(&format!("ALTER DATABASE {} SET check_function_bodies = off", database.name)).await?;
    Store::try_new(super::peer_pool(&database.url(), 2).await?, Json::default()).await?;
    database.execute(BEGIN_EPOCH).await
}

pub fn fill() -> Result<String, Failure> {
    let event = serde_json::to_string(&AccountEvent::new("ACCOUNT", Deposited::new()))?;
    Ok(format!(
        "INSERT INTO event (event_type, payload, account_id) SELECT 'Deposited', \
             convert_to(replace('{event}', 'ACCOUNT', '{{id}}' || account), 'UTF8'), '{{id}}' || account \
         FROM generate_series(1, {{accounts}}) AS account, generate_series(1, {{events}}) AS version"
    ))
}
