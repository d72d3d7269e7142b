//! A client: sends commands and loads one by one, and records them in the journal.

use std::sync::Arc;
use std::time::Duration;

use es_core::feed::Feed;
use es_core::repository::Request;
use es_core::{BoxError, ExecuteError, ExpectedVersion, Outcome, Repository, Transaction};
use fastrand::Rng;
use tokio::time::sleep;

use crate::domain::{ACCOUNTS, Account, Deposit, HANDLES, Refusal, TakeHandle, Withdraw, account};
use crate::journal::{Journal, Load, Part, Recorded, Told};

pub(crate) struct Client<A: Account> {
    pub(crate) store: Arc<dyn Feed>,
    pub(crate) accounts: Repository<A>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) random: Rng,
    /// The prefix of all its notes and idempotency keys.
    pub(crate) prefix: String,
    /// The number of its next command.
    pub(crate) next: u64,
}

/// The effect of a command on one account.
enum Change {
    Deposit,
    Withdraw,
    TakeHandle(String),
}

impl<A: Account> Client<A> {
    pub(crate) async fn run(mut self) -> Result<(), BoxError> {
        loop {
            match self.random.u8(..20) {
                0..10 => self.deposit().await?,
                10..12 => self.withdraw().await?,
                12..14 => self.take_handle().await?,
                14..17 => self.transact().await?,
                _ => self.load().await?,
            }
            sleep(Duration::from_millis(self.random.u64(..20))).await;
        }
    }

    /// Deposits in a shared account or in a new one.
    async fn deposit(&mut self) -> Result<(), BoxError> {
        let number = self.number();
        let (account, expected) = match self.random.u8(..10) {
            0 => (format!("fresh-{}.{number}", self.prefix), ExpectedVersion::NoStream),
            _ => (self.accounts_in_random_order().swap_remove(0), ExpectedVersion::Any),
        };
        self.send(number, account, &Change::Deposit, expected).await
    }

    async fn withdraw(&mut self) -> Result<(), BoxError> {
        let account = self.accounts_in_random_order().swap_remove(0);
        let number = self.number();
        self.send(number, account, &Change::Withdraw, ExpectedVersion::Any).await
    }

    async fn take_handle(&mut self) -> Result<(), BoxError> {
        let account = self.accounts_in_random_order().swap_remove(0);
        let handle = format!("handle-{}", self.random.u8(..HANDLES));
        let number = self.number();
        self.send(number, account, &Change::TakeHandle(handle), ExpectedVersion::Any).await
    }

    /// Sends a command for one account, sometimes several times with an idempotency key.
    async fn send(
        &mut self,
        number: u64,
        account: String,
        change: &Change,
        expected: ExpectedVersion,
    ) -> Result<(), BoxError> {
        let part = self.part(number, account, change);
        self.journal.begin(number, std::slice::from_ref(&part))?;
        let key = format!("{}.{number}", self.prefix);
        let times = self.times();
        let mut told = None;
        for _ in 0..times.max(1) {
            let request = self.accounts.expected_version(expected);
            let request = if times > 0 { request.once(&key) } else { request };
            let answer = match execute(request, &part, change).await {
                Ok(outcome) => accepted([recorded(&part, &outcome)]),
                Err(error) => not_accepted(&error),
            };
            told = Some(both(told, answer)?);
        }
        self.journal.end(number, told.unwrap_or(Told::Unknown))
    }

    /// Deposits in two accounts, or moves money from one to the other.
    async fn transact(&mut self) -> Result<(), BoxError> {
        let number = self.number();
        let mut accounts = self.accounts_in_random_order();
        let to = self.part(number, accounts.swap_remove(0), &Change::Deposit);
        let change = if self.random.bool() { Change::Deposit } else { Change::Withdraw };
        let from = self.part(number, accounts.swap_remove(0), &change);
        self.journal.begin(number, &[from.clone(), to.clone()])?;
        let key = format!("{}.{number}", self.prefix);
        let times = self.times();
        let mut told = None;
        for _ in 0..times.max(1) {
            let transaction = Transaction::new(&self.store);
            let transaction = transaction.execute(&self.accounts, &to.account, deposit(&to));
            let transaction = match change {
                Change::Withdraw => transaction.execute(&self.accounts, &from.account, withdraw(&from)),
                _ => transaction.execute(&self.accounts, &from.account, deposit(&from)),
            };
            let transaction = if times > 0 { transaction.once(&key) } else { transaction };
            let answer = match transaction.commit().await {
                Ok(committed) => accepted([&from, &to].map(|part| {
                    committed.outcome::<A>(&part.account).and_then(|outcome| recorded(part, outcome))
                })),
                Err(error) => not_accepted(&error),
            };
            told = Some(both(told, answer)?);
        }
        self.journal.end(number, told.unwrap_or(Told::Unknown))
    }

    /// Loads an account. A failed load proves nothing.
    async fn load(&mut self) -> Result<(), BoxError> {
        let account = self.accounts_in_random_order().swap_remove(0);
        let Ok(loaded) = self.accounts.load(&account).await else { return Ok(()) };
        let (version, state) = (loaded.version.get(), loaded.state.summary().clone());
        self.journal.loaded(Load { account, version, state })
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn accounts_in_random_order(&mut self) -> Vec<String> {
        let mut accounts: Vec<_> = (0..ACCOUNTS).map(account).collect();
        self.random.shuffle(&mut accounts);
        accounts
    }

    /// Returns how many times to send a command with its idempotency key, or 0 for none.
    fn times(&mut self) -> usize {
        if self.random.bool() { self.random.usize(1..4) } else { 0 }
    }

    fn part(&mut self, number: u64, account: String, change: &Change) -> Part {
        let notes = match change {
            Change::TakeHandle(_) => 1,
            _ => self.random.usize(1..4),
        };
        let notes = (0..notes).map(|note| format!("{}.{number}.{note}", self.prefix)).collect();
        Part { account, notes }
    }
}

async fn execute<A: Account>(
    request: Request<'_, A>,
    part: &Part,
    change: &Change,
) -> Result<Outcome<A>, ExecuteError<Refusal>> {
    let id = &part.account;
    match change {
        Change::Deposit => request.execute(id, deposit(part)).await,
        Change::Withdraw => request.execute(id, withdraw(part)).await,
        Change::TakeHandle(handle) => {
            let note = part.notes.concat();
            request.execute(id, TakeHandle { handle: handle.clone(), note }).await
        }
    }
}

fn deposit(part: &Part) -> Deposit {
    Deposit { notes: part.notes.clone() }
}

fn withdraw(part: &Part) -> Withdraw {
    Withdraw { notes: part.notes.clone() }
}

/// Returns the commit of an outcome, or `None` if no event was recorded.
fn recorded<A: Account>(part: &Part, outcome: &Outcome<A>) -> Option<Recorded> {
    let commit = outcome.commit?.to_string();
    Some(Recorded { account: part.account.clone(), commit, last: outcome.version.get() })
}

fn accepted(recorded: impl IntoIterator<Item = Option<Recorded>>) -> Told {
    Told::Accepted(recorded.into_iter().flatten().collect())
}

fn not_accepted<E>(error: &ExecuteError<E>) -> Told {
    if error.is_outcome_unknown() { Told::Unknown } else { Told::Refused }
}

/// Combines two responses to one idempotency key. A refusal says nothing about an earlier attempt.
fn both(before: Option<Told>, answer: Told) -> Result<Told, BoxError> {
    match (before, answer) {
        (None | Some(Told::Refused), answer) => Ok(answer),
        (Some(Told::Accepted(one)), Told::Accepted(other)) if one != other => {
            Err(format!("two answers to one command: {one:?} and {other:?}").into())
        }
        (Some(before @ Told::Accepted(_)), _) | (Some(before), Told::Refused | Told::Unknown) => Ok(before),
        (Some(Told::Unknown), answer) => Ok(answer),
    }
}
