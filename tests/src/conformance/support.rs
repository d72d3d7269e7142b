//! Streams, commits, and events for the rules.

use chrono::{DateTime, Utc};
use es_core::event::{CommitId, EventData};
use es_core::store::{Append, AppendError, Appended, Commit, NewCommit, Page, Read};
use es_core::{EventStore, StreamId};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use uuid::Uuid;

/// Returns a new stream, which no other test uses.
#[must_use]
pub fn new_stream() -> StreamId {
    StreamId::new("conformance", Uuid::new_v4()).expect("a valid stream")
}

/// Returns the time `seconds` after a fixed moment in the past.
#[must_use]
pub fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 123_000_000).expect("a valid time")
}

/// Returns a commit of `events` with a new id.
#[must_use]
pub fn new_commit(events: Vec<EventData>) -> NewCommit {
    NewCommit::new(CommitId::new(Uuid::new_v4()), time(0), events)
}

/// Returns `count` small events, which all differ.
#[must_use]
pub fn events(count: usize) -> Vec<EventData> {
    (0..count).map(|n| EventData::new("Counted", 1, format!("{{\"n\":{n}}}"))).collect()
}

/// A payload of a given size that compresses badly and reveals truncation.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Distinguishes patterns.
    pub seed: u64,
    /// The size in bytes, including the quotes.
    pub bytes: usize,
}

impl Pattern {
    /// Returns the payload, a JSON string.
    #[must_use]
    pub fn payload(self) -> String {
        let mut text = String::with_capacity(self.bytes + 32);
        text.push('"');
        let mut n = self.seed;
        while text.len() < self.bytes - 1 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{n:016x}"));
        }
        text.truncate(self.bytes - 1);
        text.push('"');
        text
    }

    /// Returns an event with the payload.
    #[must_use]
    pub fn event(self) -> EventData {
        EventData::new("Patterned", 1, self.payload())
    }
}

/// Returns all pages of a read as one.
///
/// # Panics
///
/// If the store fails.
pub async fn read_all(store: &dyn EventStore, read: Read) -> Page {
    let pages: Vec<Page> = store.read(read).try_collect().await.expect("the stream can be read");
    let mut all = Page::default();
    for (index, page) in pages.into_iter().enumerate() {
        assert!(index == 0 || page.snapshot.is_none(), "only the first page may carry a snapshot");
        all.snapshot = all.snapshot.or(page.snapshot);
        all.unusable_snapshot = all.unusable_snapshot.or(page.unusable_snapshot);
        all.commits.extend(page.commits);
        all.cost += page.cost;
    }
    all
}

/// Executes appends concurrently, and returns their results. Repeats those that the store refuses temporarily, as it may
/// while another transaction is in progress.
pub(super) async fn race(store: &dyn EventStore, appends: &[Append]) -> Vec<Result<Appended, AppendError>> {
    let decided = appends.iter().map(|append| async move {
        loop {
            match store.append(append).await {
                Err(error) if error.is_retryable() => tokio::task::yield_now().await,
                result => return result,
            }
        }
    });
    join_all(decided).await
}

/// Returns all commits of a stream.
///
/// # Panics
///
/// If the store fails.
pub(super) async fn commits(store: &dyn EventStore, stream: &StreamId) -> Vec<Commit> {
    read_all(store, Read::all(stream.clone())).await.commits
}
