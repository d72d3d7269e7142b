//! Taking snapshots: when, and off the path of commands.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use futures_util::FutureExt;

use crate::aggregate::Aggregate;
use crate::error_text::error_text;
use crate::repository::Inner;
use crate::repository::fold::Fold;
use crate::snapshot::{SnapshotPolicy, Snapshots};
use crate::stream_id::StreamId;
use crate::version::Version;

/// Below this many bytes of events an adaptive snapshot is not worth its write.
const SMALLEST_TAIL_BYTES: u64 = 4096;

/// By how many commits a tail may grow while the snapshot that ends it is being written.
const MARGIN: u64 = 2;

/// What a repository knows about the snapshots of its aggregates.
#[derive(Default)]
pub(crate) struct Snapshotting {
    /// How many commits a tail held at most, lately: what a load should ask for.
    usual_tail: AtomicU64,
    pending: Arc<Pending>,
}

/// Snapshots that are being written: the streams that they are of.
#[derive(Default)]
struct Pending {
    streams: Mutex<HashSet<StreamId>>,
    done: Event,
}

impl Pending {
    fn streams(&self) -> MutexGuard<'_, HashSet<StreamId>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them; whatever becomes of its task, it is counted off.
struct PendingOne {
    pending: Arc<Pending>,
    stream: StreamId,
}

impl PendingOne {
    /// `None` when one of the same stream is being written already: the next will be due soon enough.
    fn new(pending: &Arc<Pending>, stream: &StreamId) -> Option<Self> {
        let is_first = pending.streams().insert(stream.clone());
        is_first.then(|| Self { pending: Arc::clone(pending), stream: stream.clone() })
    }
}

impl Drop for PendingOne {
    fn drop(&mut self) {
        let mut streams = self.pending.streams();
        streams.remove(&self.stream);
        if streams.is_empty() {
            self.pending.done.notify(usize::MAX);
        }
    }
}

impl Snapshotting {
    /// How many commits to expect after a snapshot at most.
    pub(crate) fn longest_tail(&self, policy: SnapshotPolicy) -> Option<u32> {
        match policy {
            SnapshotPolicy::Never => None,
            // So many events are so many commits at most, and fewer where commits hold several.
            SnapshotPolicy::Every(events) => Some(match self.usual_tail.load(Ordering::Relaxed) {
                0 => events.max(1),
                usual => (usual + MARGIN).min(u64::from(events.max(1))) as u32,
            }),
            SnapshotPolicy::Adaptive => Some(self.usual_tail.load(Ordering::Relaxed).clamp(8, 1_000) as u32),
        }
    }

    /// Waits until every snapshot that is being written now is written, or has failed.
    pub(crate) async fn flush(&self) {
        while !self.pending.streams().is_empty() {
            let listener = self.pending.done.listen();
            if !self.pending.streams().is_empty() {
                listener.await;
            }
        }
    }

    fn learn(&self, commits: u64) {
        // Falls slowly and rises at once: too small a guess costs a request, too large a few read units.
        let usual = self.usual_tail.load(Ordering::Relaxed);
        self.usual_tail.store(commits.max(usual - usual / 8), Ordering::Relaxed);
    }
}

impl<A: Aggregate> Inner<A> {
    /// How this repository uses snapshots, if it does.
    pub(crate) fn usable_snapshots(&self) -> Option<(Snapshots<A>, SnapshotPolicy)> {
        let snapshots = A::snapshots()?;
        let policy = self.snapshots.unwrap_or_else(|| snapshots.policy());
        (policy != SnapshotPolicy::Never).then_some((snapshots, policy))
    }

    /// Starts to write a snapshot when it is time for one. Whatever becomes of it, the command is done.
    pub(crate) fn take_snapshot(&self, stream: &StreamId, fold: &mut Fold<A>) {
        let Some((snapshots, policy)) = self.usable_snapshots() else {
            return;
        };
        let due = match policy {
            SnapshotPolicy::Never => false,
            SnapshotPolicy::Every(events) => fold.version.since(fold.snapshot) >= u64::from(events.max(1)),
            SnapshotPolicy::Adaptive => fold.tail.bytes > fold.snapshot_bytes.max(SMALLEST_TAIL_BYTES),
        };
        let Some(time) = fold.time.filter(|_| due) else {
            return;
        };
        let Some(pending) = PendingOne::new(&self.snapshotting.pending, stream) else {
            return;
        };
        let Ok(snapshot) = snapshots.take(&fold.state, fold.version, time) else {
            warn(stream, fold.version, "the state has no JSON form");
            return;
        };
        self.snapshotting.learn(fold.tail.commits);
        let replaces = fold.unusable_snapshot.take();
        fold.note_snapshot(&snapshot);

        let (store, stream) = (Arc::clone(&self.store), stream.clone());
        self.store.spawn(
            async move {
                match store.write_snapshot(&stream, &snapshot, replaces).await {
                    Ok(cost) => {
                        tracing::debug!(%stream, version = %snapshot.version(), %cost, "wrote a snapshot");
                    }
                    Err(error) => warn(&stream, snapshot.version(), &error_text(&error)),
                }
                drop(pending);
            }
            .boxed(),
        );
    }
}

fn warn(stream: &StreamId, version: Version, error: &str) {
    tracing::warn!(%stream, %version, error, "could not write a snapshot");
}
