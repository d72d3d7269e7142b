//! A client: its commands, and its log of their outcomes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use es_core::clock::ManualClock;
use es_core::event::CommitId;
use es_core::ids::IdSource;
use es_core::snapshot::SnapshotPolicy;
use es_core::store::{Append, AppendError, NewCommit};
use es_core::testing::Faults;
use es_core::{
    Aggregate, Event, EventStore, ExecuteError, Repository, RetryPolicy, StreamId, Transaction, Version,
};
use fastrand::Rng;
use futures_util::future::{Either, select};
use uuid::Uuid;

use super::{ACCOUNTS, CREATED, HANDLES};
use crate::conformance::time;
use crate::domain::{Account, AccountEvent, Deposit, Deposited, RequireBalance, TakeHandle, Withdraw};

/// An attempted command, and its outcome as returned to the client.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) kind: Kind,
    /// The notes that it writes, each with its account.
    pub(super) notes: Vec<(String, String)>,
    pub(super) told: Told,
}

/// The kind of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Deposit,
    /// A deposit that creates its account.
    Creation,
    Withdrawal,
    /// Deposits in two accounts with one transaction.
    Transaction,
    /// Several deposits, each a commit, that are appended to the store as one.
    Group,
    /// A deposit delivered several times under one idempotency key.
    Delivery,
    /// An account takes a handle.
    Claim,
}

/// The outcome of a command, as returned to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The command is recorded; each account has reached this version.
    Accepted(Versions),
    /// The command is not recorded.
    Refused,
    /// The outcome is unknown, or the client did not wait.
    Nothing,
}

/// Accounts with the versions they have reached.
type Versions = Vec<(String, Version)>;

impl Told {
    fn of<E>(result: Option<Result<Versions, ExecuteError<E>>>) -> Self {
        match result {
            Some(Ok(versions)) => Self::Accepted(versions),
            Some(Err(error)) if !error.is_outcome_unknown() => Self::Refused,
            Some(Err(_)) | None => Self::Nothing,
        }
    }
}

/// A client with separate faults.
pub(super) struct Client<'a> {
    index: usize,
    random: Rng,
    faults: Faults,
    open: &'a dyn Fn(Faults) -> Arc<dyn EventStore>,
}

/// The ids of one client, from a seed.
#[derive(Debug)]
pub(super) struct SeededIds(std::sync::Mutex<Rng>);

impl SeededIds {
    pub(super) fn new(random: Rng) -> Self {
        Self(std::sync::Mutex::new(random))
    }
}

impl IdSource for SeededIds {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(self.0.lock().expect("is not poisoned").u128(..))
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(
        index: usize,
        seed: u64,
        faults: Faults,
        open: &'a dyn Fn(Faults) -> Arc<dyn EventStore>,
    ) -> Self {
        Self { index, random: Rng::with_seed(seed), faults, open }
    }

    /// Executes commands, and dies now and then: the next incarnation starts with only the log.
    pub(super) async fn live(mut self, commands: usize) -> Vec<Attempted> {
        let mut log = Vec::new();
        let mut done = 0;
        while done < commands {
            let life = self.random.usize(1..=commands - done);
            let faults = match self.random.u8(..4) {
                0 => self.faults.clone().crash_after(self.faults.requests() + self.random.u64(1..12)),
                _ => self.faults.clone(),
            };
            let store = (self.open)(faults);
            let accounts = self.repository(Arc::clone(&store));
            for _ in 0..life {
                let attempted = self.attempt(&store, &accounts, done).await;
                log.push(attempted);
                done += 1;
            }
        }
        log
    }

    fn repository(&mut self, store: Arc<dyn EventStore>) -> Repository<Account> {
        let retry = RetryPolicy::default().with_max_attempts(6).with_base_delay(Duration::ZERO);
        let policy = match self.random.u8(..3) {
            0 => SnapshotPolicy::Never,
            1 => SnapshotPolicy::Every(self.random.u32(1..5)),
            _ => SnapshotPolicy::Adaptive,
        };
        let ids = self.ids();
        let builder = Repository::builder(store)
            .retry(retry)
            .snapshots(policy)
            .ids(ids)
            .clock(ManualClock::at(time(self.random.i64(0..100))));
        match self.random.u8(..4) {
            0 => builder.cache(4).build(),
            1 => builder.eventual_reads().build(),
            2 => builder.cache(4).eventual_reads().build(),
            _ => builder.build(),
        }
    }

    fn ids(&mut self) -> SeededIds {
        SeededIds::new(self.random.fork())
    }

    fn account(&mut self) -> String {
        format!("shared-{}", self.random.usize(..ACCOUNTS))
    }

    /// Returns notes that no other client writes.
    fn notes(&mut self, account: &str, number: usize) -> Vec<(String, String)> {
        let parts = 0..self.random.usize(1..4);
        parts.map(|part| (account.to_owned(), format!("{}.{number}.{account}.{part}", self.index))).collect()
    }

    async fn attempt(
        &mut self,
        store: &Arc<dyn EventStore>,
        accounts: &Repository<Account>,
        number: usize,
    ) -> Attempted {
        let account = self.account();
        let at = |version| vec![(account.clone(), version)];
        match self.random.u8(..13) {
            0 | 1 => {
                let command = Withdraw { cents: self.random.u64(1..5) };
                let result = self.perhaps_interrupted(accounts.execute(&account, command)).await;
                let told = Told::of(result.map(|result| result.map(|outcome| at(outcome.version))));
                Attempted { kind: Kind::Withdrawal, notes: Vec::new(), told }
            }
            2 => {
                let command = TakeHandle { handle: format!("handle-{}", self.random.usize(..HANDLES)) };
                let result = self.perhaps_interrupted(accounts.execute(&account, command)).await;
                let told = Told::of(result.map(|result| result.map(|outcome| at(outcome.version))));
                Attempted { kind: Kind::Claim, notes: Vec::new(), told }
            }
            3 | 4 => self.transact(store, accounts, &account, number).await,
            5 => self.deliver(accounts, &account, number).await,
            6 | 7 => {
                let notes = self.notes(&account, number);
                let ids = self.ids();
                let group = append_group(&ids, store, &account, &notes);
                let told = self.perhaps_interrupted(group).await.unwrap_or(Told::Nothing);
                Attempted { kind: Kind::Group, notes, told }
            }
            8 => {
                let account = format!("created-{}", self.random.usize(..CREATED));
                let notes = self.notes(&account, number);
                let result = self.perhaps_interrupted(accounts.create(&account, deposit(&notes))).await;
                let versions = result.map(|result| result.map(|outcome| vec![(account, outcome.version)]));
                Attempted { kind: Kind::Creation, notes, told: Told::of(versions) }
            }
            _ => {
                let notes = self.notes(&account, number);
                let result = self.perhaps_interrupted(accounts.execute(&account, deposit(&notes))).await;
                let told = Told::of(result.map(|result| result.map(|outcome| at(outcome.version))));
                Attempted { kind: Kind::Deposit, notes, told }
            }
        }
    }

    /// Deposits in two accounts with one transaction, sometimes on the condition of a balance in a third.
    async fn transact(
        &mut self,
        store: &Arc<dyn EventStore>,
        accounts: &Repository<Account>,
        account: &str,
        number: usize,
    ) -> Attempted {
        let other = loop {
            let other = self.account();
            if other != account {
                break other;
            }
        };
        let (here, there) = (self.notes(account, number), self.notes(&other, number));
        let retry = RetryPolicy::default().with_max_attempts(6).with_base_delay(Duration::ZERO);
        let mut transaction = Transaction::new(store)
            .execute(accounts, &account.to_owned(), deposit(&here))
            .execute(accounts, &other, deposit(&there))
            .retry(retry);
        if self.random.bool() {
            let condition = RequireBalance { cents: self.random.u64(..3) };
            transaction = transaction.execute(accounts, &self.account(), condition);
        }
        if self.random.bool() {
            transaction = transaction.once(format!("{}.{number}", self.index));
        }
        let result = self.perhaps_interrupted(transaction.commit()).await;
        let versions = result.map(|result| {
            result.map(|committed| {
                let version = |id: &str| committed.outcome::<Account>(&id.to_owned()).map(|at| at.version);
                let ids = [account, other.as_str()];
                ids.iter().filter_map(|id| Some(((*id).to_owned(), version(id)?))).collect()
            })
        });
        let notes = here.into_iter().chain(there).collect();
        Attempted { kind: Kind::Transaction, notes, told: Told::of(versions) }
    }

    /// Delivers a deposit several times under one key. The outcome of any delivery holds for all.
    async fn deliver(&mut self, accounts: &Repository<Account>, account: &str, number: usize) -> Attempted {
        let notes = self.notes(account, number);
        let key = format!("{}.{number}", self.index);
        let mut told = Vec::new();
        for _ in 0..self.random.usize(1..4) {
            let request = accounts.once(&key);
            let id = account.to_owned();
            let result = self.perhaps_interrupted(request.execute(&id, deposit(&notes))).await;
            told.push(Told::of(
                result.map(|result| result.map(|outcome| vec![(id.clone(), outcome.version)])),
            ));
        }
        // The check would find a refused delivery after an accepted one as an unexpected note.
        let accepted = told.iter().position(|told| matches!(told, Told::Accepted(_)));
        let nothing = told.iter().position(|told| *told == Told::Nothing);
        let told = told.swap_remove(accepted.or(nothing).unwrap_or(0));
        Attempted { kind: Kind::Delivery, notes, told }
    }

    async fn perhaps_interrupted<T>(&mut self, command: impl Future<Output = T>) -> Option<T> {
        perhaps_interrupted(&mut self.random, command).await
    }
}

/// Waits for a command, or drops it before it completes.
pub(super) async fn perhaps_interrupted<T>(random: &mut Rng, command: impl Future<Output = T>) -> Option<T> {
    if random.u8(..5) > 0 {
        return Some(command.await);
    }
    let mut patience = random.u32(1..40);
    let impatient = poll_fn(move |context| {
        patience -= 1;
        if patience == 0 {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    match select(pin!(command), impatient).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

/// Appends a commit for each note, and all of them as one, after the last version that the store has. The store may
/// lose the race, or a response, several times.
async fn append_group(
    ids: &SeededIds,
    store: &Arc<dyn EventStore>,
    account: &str,
    notes: &[(String, String)],
) -> Told {
    let stream = StreamId::new(Account::NAME, account).expect("a valid stream");
    let new_commit = |(_, note): &(String, String)| {
        let event = Event::to_data(&AccountEvent::from(Deposited { cents: 1, note: note.clone() }));
        // The times of a stream do not decrease, so it is the latest of all clients.
        NewCommit::new(CommitId::new(ids.new_id()), time(100), vec![event.expect("has a JSON form")])
    };
    let mut commits = notes.iter().map(new_commit);
    let first = commits.next().expect("at least one note");
    let commits: Vec<_> = commits.collect();
    let Ok(head) = store.head(&stream).await else { return Told::Refused };
    let mut version = head.version;
    for _ in 0..4 {
        let append = Append::after_loaded(stream.clone(), version, first.clone());
        let append = append.with_following(commits.clone());
        let mut result = store.append(&append).await;
        let mut attempts = 1;
        let mut is_unknown = false;
        while let Err(AppendError::Store(error)) = &result {
            is_unknown |= error.is_outcome_unknown();
            attempts += 1;
            if !error.is_retryable() || attempts > 6 {
                return if is_unknown { Told::Nothing } else { Told::Refused };
            }
            result = store.append(&append).await;
        }
        match result {
            Ok(appended) => return Told::Accepted(vec![(account.to_owned(), appended.last)]),
            // The conflict contains all commits of the append that won, or another one is needed.
            Err(AppendError::Conflict(conflict)) => match conflict.commits.last() {
                Some(last) => version = last.last(),
                None => return Told::Refused,
            },
            Err(_) => unreachable!("is handled above"),
        }
    }
    Told::Refused
}

fn deposit(notes: &[(String, String)]) -> Deposit {
    Deposit { cents: 1, notes: notes.iter().map(|(_, note)| note.clone()).collect() }
}
