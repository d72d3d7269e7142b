//! A projection that its events control, and events for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::documents::Documents;
use es_core::event::EventData;
use es_core::feed::{Feed, Slice};
use es_core::prelude::*;
use es_core::projection::ProjectorBuilder;
use es_core::serde::{Deserialize, Serialize};
use es_core::store::Append;
use es_core::{EventStore, ExpectedVersion, MemoryStore, RetryPolicy, StreamId};
use es_tests::chaos::projections::VirtualTime;
use es_tests::conformance::new_commit;
use es_tests::domain::{Account, Deposit, Deposited, Withdraw, Withdrawn};

/// A deposit, by its note.
#[derive(Clone, Debug, PartialEq, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "lines", key = note, index(by_account(account, version)))]
pub(crate) struct Line {
    pub(crate) note: String,
    pub(crate) account: String,
    pub(crate) version: u64,
}

/// A projection with a line for each deposit. A note `many:n` adds n lines.
#[derive(Clone, Projection)]
#[projection(name = "journal", events(Account(Deposited, Withdrawn)))]
pub(crate) struct Journal {
    #[read_model]
    pub(crate) lines: ReadModel<Line>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The completely handled events: account and version.
    handled: Mutex<Vec<(String, u64)>>,
    /// The remaining failures of the event with a note.
    failures: Mutex<BTreeMap<String, u32>>,
    /// The number of failures of an event.
    failed: Mutex<u32>,
}

impl Journal {
    pub(crate) fn new(store: &(impl Documents + Clone)) -> Self {
        Self { lines: ReadModel::of::<Self>(store), shared: Arc::default() }
    }

    pub(crate) fn handled(&self) -> Vec<(String, u64)> {
        self.shared.handled.lock().expect("no panic").clone()
    }

    /// Returns the handled versions of one account.
    pub(crate) fn versions(&self, account: &str) -> Vec<u64> {
        self.handled().into_iter().filter(|(of, _)| of == account).map(|(_, version)| version).collect()
    }

    pub(crate) fn failed(&self) -> u32 {
        *self.shared.failed.lock().expect("no panic")
    }

    /// Makes the event with the note `note` fail `times` times.
    pub(crate) fn fail(&self, note: &str, times: u32) {
        self.shared.failures.lock().expect("no panic").insert(note.to_owned(), times);
    }

    fn perhaps_fail(&self, note: &str) -> Result<(), BoxError> {
        let mut failures = self.shared.failures.lock().expect("no panic");
        match failures.get_mut(note) {
            Some(left) if *left > 0 => {
                *left -= 1;
                *self.shared.failed.lock().expect("no panic") += 1;
                Err(format!("{note} is not welcome").into())
            }
            _ => Ok(()),
        }
    }

    fn done(&self, ctx: &EventContext) {
        let place = (ctx.id().to_owned(), ctx.version().get());
        self.shared.handled.lock().expect("no panic").push(place);
    }
}

impl Project<Deposited> for Journal {
    async fn project(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let (account, version) = (ctx.id().to_owned(), ctx.version().get());
        let many = event.note.strip_prefix("many:").map_or(Ok(0), str::parse::<u32>)?;
        for line in 0..many {
            let note = format!("{account}:{version}:{line}");
            self.lines.put(Line { note, account: account.clone(), version })?;
        }
        self.lines.put(Line { note: event.note.clone(), account, version })?;
        self.perhaps_fail(&event.note)?;
        self.done(ctx);
        Ok(())
    }
}

impl Project<Withdrawn> for Journal {
    async fn project(&mut self, _: &Withdrawn, ctx: &EventContext) -> Result<(), BoxError> {
        self.done(ctx);
        Ok(())
    }
}

pub(crate) const LEASE: Duration = Duration::from_millis(300);

/// Returns a projector on tokio's time, which is paused in these tests.
pub(crate) fn projector<P: Projection>(store: impl Feed, projection: P) -> ProjectorBuilder<P> {
    let retry = RetryPolicy::default().with_max_attempts(3).with_base_delay(Duration::from_millis(1));
    Projector::builder(store, projection)
        .clock(VirtualTime::new(chrono::TimeDelta::zero()))
        .poll(Duration::from_millis(10))
        .lease(LEASE)
        .retry(retry)
}

/// A worker in the background.
pub(crate) fn work<P: Projection>(
    projector: &Projector<P>,
) -> tokio::task::JoinHandle<Result<(), es_core::projection::ProjectorError>> {
    let projector = projector.clone();
    tokio::spawn(async move { projector.run().await })
}

/// Appends one commit with a deposit for each note.
pub(crate) async fn deposit(store: &MemoryStore, account: &str, notes: &[&str]) -> Version {
    let notes = notes.iter().map(|note| (*note).to_owned()).collect();
    let accounts = Repository::<Account>::new(store.clone());
    accounts.execute(&account.to_owned(), Deposit { cents: 5, notes }).await.expect("accepted").version
}

pub(crate) async fn withdraw(store: &MemoryStore, account: &str) -> Version {
    let accounts = Repository::<Account>::new(store.clone());
    accounts.execute(&account.to_owned(), Withdraw { cents: 1 }).await.expect("accepted").version
}

pub(crate) fn stream(account: &str) -> StreamId {
    StreamId::new("account", account).expect("a valid stream")
}

/// Returns the slice of an account.
pub(crate) async fn slice(store: &MemoryStore, account: &str) -> Slice {
    store.slice_tree().await.expect("slices").of(&stream(account))
}

/// Returns an account in the same slice as `account`.
pub(crate) async fn neighbor(store: &MemoryStore, account: &str) -> String {
    let slices = store.slice_tree().await.expect("slices");
    let slice = slices.of(&stream(account));
    let mut names = (0..).map(|number| format!("neighbor-{number}"));
    names.find(|name| slices.of(&stream(name)) == slice).expect("there is one")
}

/// Appends an event unchanged.
pub(crate) async fn append(store: &MemoryStore, stream: &StreamId, name: &'static str, payload: &str) {
    let commit = new_commit(vec![EventData::new(name, 1, payload.to_owned())]);
    store.append(&Append::new(stream.clone(), ExpectedVersion::Any, commit)).await.expect("appended");
}
