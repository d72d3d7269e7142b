//! A client: what it does, and what it remembers of it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use es_core::testing::Faults;
use es_core::{
    EventStore, ExecuteError, IdSource, ManualClock, Repository, RetryPolicy, SnapshotPolicy, Version,
};
use fastrand::Rng;
use futures_util::future::{Either, select};
use uuid::Uuid;

use super::ACCOUNTS;
use crate::conformance::time;
use crate::domain::{Account, Deposit, Withdraw};

/// A command that was tried, and what its client was told.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) account: String,
    /// The notes that the command leaves in the stream.
    pub(super) notes: Vec<String>,
    pub(super) told: Told,
}

/// What a client was told of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is recorded, up to this version.
    Accepted(Version),
    /// It is not recorded.
    Refused,
    /// Nothing: the store failed, or the client did not wait.
    Nothing,
}

/// A client with faults of its own.
pub(super) struct Client<'a> {
    index: usize,
    random: Rng,
    faults: Faults,
    open: &'a dyn Fn(Faults) -> Arc<dyn EventStore>,
}

/// The ids that one client draws from its seed.
#[derive(Debug)]
struct SeededIds(std::sync::Mutex<Rng>);

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

    /// Carries out commands, and dies now and then: the next life starts with nothing but the log.
    pub(super) async fn live(mut self, commands: usize) -> Vec<Attempted> {
        let mut log = Vec::new();
        let mut done = 0;
        while done < commands {
            let life = self.random.usize(1..=commands - done);
            let faults = match self.random.u8(..4) {
                0 => self.faults.clone().crash_after(self.faults.requests() + self.random.u64(1..12)),
                _ => self.faults.clone(),
            };
            let accounts = self.repository((self.open)(faults));
            for _ in 0..life {
                let attempted = self.attempt(&accounts, done).await;
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
        let ids = SeededIds(std::sync::Mutex::new(self.random.fork()));
        let builder = Repository::builder(store)
            .retry(retry)
            .snapshots(policy)
            .ids(ids)
            .clock(ManualClock::at(time(self.random.i64(0..100))));
        match self.random.bool() {
            true => builder.cache(4).build(),
            false => builder.build(),
        }
    }

    async fn attempt(&mut self, accounts: &Repository<Account>, number: usize) -> Attempted {
        let account = format!("shared-{}", self.random.usize(..ACCOUNTS));
        let mut notes = Vec::new();
        let result = if self.random.u8(..4) == 0 {
            let command = Withdraw { cents: self.random.u64(1..5) };
            self.perhaps_interrupted(accounts.execute(&account, command)).await
        } else {
            notes =
                (0..self.random.usize(1..4)).map(|part| format!("{}.{number}.{part}", self.index)).collect();
            let command = Deposit { cents: 1, notes: notes.clone() };
            self.perhaps_interrupted(accounts.execute(&account, command)).await
        };
        let told = match result {
            Some(Ok(outcome)) => Told::Accepted(outcome.version),
            Some(Err(ExecuteError::Rejected(_) | ExecuteError::Conflict(_))) => Told::Refused,
            Some(Err(_)) | None => Told::Nothing,
        };
        Attempted { account, notes, told }
    }

    /// Waits for a command, or drops it somewhere on its way.
    async fn perhaps_interrupted<T>(&mut self, command: impl Future<Output = T>) -> Option<T> {
        if self.random.u8(..5) > 0 {
            return Some(command.await);
        }
        let mut patience = self.random.u32(1..40);
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
}
