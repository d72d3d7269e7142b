//! The store of scenarios.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, TryStreamExt};

use super::scenario::faithful_data;
use crate::aggregate::Aggregate;
use crate::event::{CommitId, EventData};
use crate::events::Events;
use crate::ids::IdSource;
use crate::memory::MemoryStore;
use crate::personal::{Keyring, MemoryKeyring, SealedStore, Subject};
use crate::store::{Append, EventStore, NewCommit, Read};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// The store on which [`project`](super::project), [`react`](super::react), and [`transaction`](super::transaction) run
/// scenarios: in memory, with a keyring for [personal data](crate::personal).
pub type TestStore = SealedStore<MemoryStore>;

/// Returns an empty store, and its keyring.
pub(super) fn new_store() -> (TestStore, MemoryKeyring) {
    let keyring = MemoryKeyring::new();
    (SealedStore::new(MemoryStore::new(), keyring.clone()), keyring)
}

/// Forgets the subject with the id `subject`.
#[track_caller]
pub(super) fn forget(keyring: &MemoryKeyring, subject: impl Display) {
    let forgotten = Subject::new(subject).and_then(|subject| at_once(keyring.forget(&subject)));
    if let Err(error) = forgotten {
        panic!("forgetting a subject: {error}");
    }
}

/// Commits given events to a stream.
pub(super) async fn commit_given<A: Aggregate>(
    store: &TestStore,
    commits: &dyn IdSource,
    time: DateTime<Utc>,
    stream: StreamId,
    events: &Events<A>,
) {
    let data = faithful_data(events.as_slice()).unwrap_or_else(|reason| panic!("given events: {reason}"));
    let commit = NewCommit::new(CommitId::new(commits.new_id()), time, data);
    let append = Append::new(stream, ExpectedVersion::Any, commit);
    if let Err(error) = store.append(&append).await {
        panic!("given events: {error}");
    }
}

/// Returns the events of a stream after the version `before`.
pub(super) fn recorded_after(store: &TestStore, stream: &StreamId, before: Version) -> Vec<EventData> {
    let read = Read::all(stream.clone()).after(before);
    let pages: Vec<_> = match at_once(store.read(read).try_collect()) {
        Ok(pages) => pages,
        Err(error) => panic!("`{stream}` cannot be read: {error}"),
    };
    let commits = pages.into_iter().flat_map(|page| page.commits);
    commits.flat_map(|commit| commit.events).collect()
}

pub(super) fn stream<A: Aggregate>(id: &impl Display) -> StreamId {
    StreamId::new(A::NAME, id.to_string()).expect("a valid id")
}

pub(super) fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the in-memory store completes immediately")
}
