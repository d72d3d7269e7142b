//! Taking snapshots: when, and off the path of commands.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use event_listener::Event;
use futures_util::FutureExt;

use crate::aggregate::Aggregate;
use crate::repository::Inner;
use crate::repository::fold::Fold;
use crate::snapshot::{SnapshotPolicy, Snapshots};
use crate::stream_id::StreamId;
use crate::version::Version;

/// Below this many bytes of events an adaptive snapshot is not worth its write.
const SMALLEST_TAIL_BYTES: u64 = 4096;

/// What a repository knows about the snapshots of its aggregates.
#[derive(Default)]
pub(crate) struct Snapshotting {
    /// How many commits an adaptive tail held at most, lately: what a load should ask for.
    usual_tail: AtomicU64,
    pending: Arc<Pending>,
}

/// Snapshots that are being written.
#[derive(Default)]
struct Pending {
    count: AtomicUsize,
    done: Event,
}

/// One of them; whatever becomes of its task, it is counted off.
struct PendingOne(Arc<Pending>);

impl PendingOne {
    fn new(pending: &Arc<Pending>) -> Self {
        pending.count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(pending))
    }
}

impl Drop for PendingOne {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.done.notify(usize::MAX);
        }
    }
}

impl Snapshotting {
    /// How many commits to expect after a snapshot at most.
    pub(crate) fn longest_tail(&self, policy: SnapshotPolicy) -> Option<u32> {
        match policy {
            SnapshotPolicy::Never => None,
            SnapshotPolicy::Every(events) => Some(events.max(1)),
            SnapshotPolicy::Adaptive => {
                let usual = self.usual_tail.load(Ordering::Relaxed).clamp(8, 1_000);
                Some(u32::try_from(usual).unwrap_or(u32::MAX))
            }
        }
    }

    /// Waits until every snapshot that is being written now is written, or has failed.
    pub(crate) async fn flush(&self) {
        while self.pending.count.load(Ordering::SeqCst) > 0 {
            let listener = self.pending.done.listen();
            if self.pending.count.load(Ordering::SeqCst) > 0 {
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
        let Ok(snapshot) = snapshots.take(&fold.state, fold.version, time) else {
            warn(stream, fold.version, &"the state has no JSON form");
            return;
        };
        if policy == SnapshotPolicy::Adaptive {
            self.snapshotting.learn(fold.tail.commits);
        }
        let replaces = fold.unusable_snapshot.take();
        fold.note_snapshot(&snapshot);

        let (store, stream) = (Arc::clone(&self.store), stream.clone());
        let pending = PendingOne::new(&self.snapshotting.pending);
        self.store.spawn(
            async move {
                match store.write_snapshot(&stream, &snapshot, replaces).await {
                    Ok(cost) => {
                        tracing::debug!(%stream, version = %snapshot.version(), %cost, "wrote a snapshot");
                    }
                    Err(error) => warn(&stream, snapshot.version(), &error),
                }
                drop(pending);
            }
            .boxed(),
        );
    }
}

fn warn(stream: &StreamId, version: Version, error: &dyn fmt::Display) {
    tracing::warn!(%stream, %version, %error, "could not write a snapshot");
}
