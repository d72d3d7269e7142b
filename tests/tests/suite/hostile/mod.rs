//! Hostile tables: items that no store wrote, and how a store must react to them.
//!
//! Shared by the fuzz target in `fuzz/` and an ordinary test.

mod damage;
mod domain;
pub(crate) mod items;
mod table;

use std::error::Error;

use es_core::clock::ManualClock;
use es_core::event::EventData;
use es_core::repository::Loaded;
use es_core::store::{Append, AppendError, Commit, NewCommit, Page, Read};
use es_core::{
    Aggregate, Event, EventStore, ExpectedVersion, Repository, RetryPolicy, StoreError, StreamId, Version,
};
use es_dynamo::DynamoStore;
use futures_util::TryStreamExt;

pub(crate) use domain::{Book, Ledger};
pub(crate) use items::{Case, SECRET, case};
pub(crate) use table::Table;

/// The stream of all items.
pub(crate) const STREAM: &str = "ledger#ann";

/// Returns the fold of commits.
pub(crate) fn fold(commits: &[Commit]) -> Ledger {
    let mut state = Ledger::default();
    for event in commits.iter().flat_map(|commit| &commit.events) {
        state.apply_event(&<Ledger as Aggregate>::Event::decode(event).expect("is sound"));
    }
    state
}

/// Returns a runtime with paused time.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Runs all operations of a store and a repository on a case.
///
/// # Panics
///
/// Panics if an operation breaks a promise.
pub(crate) async fn check(case: Case) {
    let table = Table::new(case.items, case.page);
    let reader = Reader::new(&table);
    let last = case.commits.last().map_or(Version::NONE, Commit::last);

    let all = reader.commits(Read::all(reader.stream.clone())).await;
    let loaded = reader.judge(reader.ledgers.load(&reader.id).await);
    let past =
        reader.judge(reader.ledgers.load_as_of(&reader.id, chrono::DateTime::<chrono::Utc>::MAX_UTC).await);
    let history = reader.judge(reader.ledgers.history(&reader.id).all().await);
    let head = reader.judge(reader.store.head(&reader.stream).await);
    let exists = reader.judge(reader.ledgers.exists(&reader.id).await);

    if case.is_sound {
        assert_eq!(all.as_ref().expect("is sound"), &case.commits, "the commits differ from the stored ones");
        for loaded in [&loaded, &past].map(|loaded| loaded.as_ref().expect("is sound")) {
            assert_eq!((loaded.version, &loaded.state), (last, &fold(&case.commits)));
        }
        assert_eq!(history.as_ref().expect("is sound").len() as u64, last.get());
        assert_eq!(head.as_ref().expect("is sound").version, last);
        assert_eq!(exists, Some(!last.is_none()));
    }
    if let (Some(all), Some(loaded)) = (&all, &loaded) {
        let last = all.last().map_or(Version::NONE, Commit::last);
        assert_eq!(loaded.version, last, "a load does not end where the stream does");
        assert!(!last.is_none() || loaded.state == Ledger::default(), "a state that no event made");
    }
    for version in [2, 999_999_999_998].map(Version::new) {
        reader.commits(Read::all(reader.stream.clone()).after(version)).await;
        reader.commits(Read::all(reader.stream.clone()).until(version)).await;
        reader.judge::<Loaded<Ledger>>(reader.ledgers.load_at(&reader.id, version).await);
    }
    reader.write().await;
    for key in table.written() {
        let digits = key.strip_prefix("E#").unwrap_or("000000000001");
        let is_commit = digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_digit());
        assert!(key == "S#" || is_commit && digits != "000000000000", "an item would be written at {key:?}");
    }
}

/// Reads a table in every way, and checks the results.
struct Reader<'a> {
    table: &'a Table,
    store: DynamoStore,
    ledgers: Repository<Ledger>,
    stream: StreamId,
    id: String,
}

impl<'a> Reader<'a> {
    fn new(table: &'a Table) -> Self {
        let store = table.store();
        let clock = ManualClock::at(chrono::DateTime::from_timestamp_millis(0).expect("in range"));
        let ledgers = Repository::builder(store.clone()).retry(RetryPolicy::never()).clock(clock).build();
        Self { table, store, ledgers, stream: STREAM.parse().expect("a stream"), id: "ann".to_owned() }
    }

    /// Returns the commits of a read, which must be contiguous. The first one may start before the read.
    async fn commits(&self, read: Read) -> Option<Vec<Commit>> {
        let mut next = read.start().next();
        let pages: Vec<Page> = self.judge(self.store.read(read).try_collect().await)?;
        let commits: Vec<_> = pages.into_iter().flat_map(|page| page.commits).collect();
        for (index, commit) in commits.iter().enumerate() {
            assert!(!commit.events.is_empty(), "a commit has no events");
            let is_next =
                commit.first == next || (index == 0 && commit.first < next && commit.last() >= next);
            assert!(is_next, "commits do not follow one another: {} before {next}", commit.first);
            next = commit.last().next();
        }
        Some(commits)
    }

    async fn write(&self) {
        let event = EventData::new("Booked", 1, "{\"amount\":1}");
        let id = "00000000-0000-4000-8000-000000000001".parse().expect("a UUID");
        for expected in [ExpectedVersion::Any, ExpectedVersion::Exact(Version::new(3))] {
            let commit = NewCommit::new(id, chrono::DateTime::default(), vec![event.clone()]);
            let appended = self.store.append(&Append::new(self.stream.clone(), expected, commit)).await;
            match appended {
                Err(AppendError::Store(error)) => drop(self.judge::<()>(Err(error))),
                Err(error) => self.look_at(&error),
                Ok(_) => {}
            }
            self.table.next_call();
        }
        if let Err(error) = self.ledgers.execute(&self.id, Book(1)).await {
            self.look_at(&error);
        }
        self.ledgers.flush().await;
    }

    /// Returns the result of a call, or checks its error.
    fn judge<T>(&self, outcome: Result<T, StoreError>) -> Option<T> {
        self.table.next_call();
        let error = match outcome {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let is_expected = matches!(
            error,
            StoreError::Corrupt { .. } | StoreError::Decode { .. } | StoreError::Invalid { .. }
        );
        assert!(is_expected, "another error than that items are damaged: {error:?}");
        self.look_at(&error);
        None
    }

    /// An error names the stream, is short, and quotes no stored data.
    fn look_at(&self, error: &dyn Error) {
        let mut text = format!("{error:?} {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        assert!(!text.contains(SECRET), "a payload is quoted: {text}");
        assert!(text.len() < 2_000, "an error of {} bytes", text.len());
        assert!(text.contains(STREAM), "which stream? {text}");
    }
}
