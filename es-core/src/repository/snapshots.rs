//! Snapshots in a repository: whether one can be used, when to take one, and writing it in the background.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use event_listener::Event;
use futures_util::FutureExt;

use crate::aggregate::Aggregate;
use crate::error_text::error_text;
use crate::event::EventData;
use crate::measure;
use crate::personal::is_in_transit;
use crate::projection::guard::caught;
use crate::repository::Inner;
use crate::repository::loading::Fold;
use crate::snapshot::{Snapshot, SnapshotPolicy, Snapshots};
use crate::store::Page;
use crate::stream_id::StreamId;
use crate::version::Version;

/// The minimum size of a tail that justifies a snapshot with [`SnapshotPolicy::Adaptive`], in bytes.
const MIN_TAIL_BYTES: u64 = 4096;

/// The number of commits by which a tail may grow while the snapshot that ends it is being written.
const MARGIN: u64 = 2;

/// The number of commits after a snapshot for which a short first page has room. With events of 100 bytes, such a page
/// takes two or three read units.
const SHORT_TAIL: u32 = 32;

/// The approximate size of a stored commit without its events, in bytes.
const COMMIT_BYTES: u64 = 150;

/// The size of the part of a stream after its snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    commits: u64,
    bytes: u64,
}

impl Tail {
    /// Adds a commit of `events`.
    fn add(&mut self, events: &[EventData]) {
        self.commits += 1;
        self.bytes += COMMIT_BYTES
            + events.iter().map(|event| (event.name().len() + event.payload().len()) as u64).sum::<u64>();
    }
}

/// What is known about the snapshot of a stream, and about the state that started from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SnapshotInfo {
    /// The version and the size in bytes of the newest snapshot that is known to be usable.
    pub(super) version: Version,
    pub(super) bytes: u64,
    /// The commits since that snapshot.
    pub(super) tail: Tail,
    /// The version of a snapshot that was found and cannot be used.
    pub(super) unusable: Option<Version>,
    /// Whether the state may contain personal data.
    pub(super) is_personal: bool,
    /// The monotonic time at which the state was first read; `None` if it was only decided here.
    pub(super) read_at: Option<Duration>,
}

impl SnapshotInfo {
    /// Records that `snapshot` contains the current state.
    pub(super) fn note(&mut self, snapshot: &Snapshot) {
        self.version = snapshot.version();
        self.bytes = snapshot.state().len() as u64;
        self.tail = Tail::default();
        self.is_personal |= is_in_transit(snapshot.state());
    }

    /// Adds a commit of `events` to the tail.
    pub(super) fn add(&mut self, events: &[EventData]) {
        self.tail.add(events);
        self.is_personal |= events.iter().any(|event| is_in_transit(event.payload()));
    }
}

/// A snapshot that a load cannot start from. The load starts from the first event instead.
pub(super) struct Unusable;

impl<A: Aggregate> Fold<A> {
    /// Continues from the snapshot of `page`, if it has one.
    ///
    /// The store has compared its fingerprint, its checksum, and the commit that it follows. Here it must also be
    /// decodable, and not be of a later version than `until`.
    pub(super) fn start_from_snapshot(
        &mut self,
        snapshots: &Snapshots<A>,
        stream: &StreamId,
        page: &Page,
        until: Option<Version>,
    ) -> Result<(), Unusable> {
        if let Some(version) = page.unusable_snapshot {
            tracing::debug!(%stream, %version, "ignored a snapshot of another shape, or a damaged one");
            self.snapshot.unusable = Some(version);
        }
        let Some(snapshot) = &page.snapshot else { return Ok(()) };
        let version = snapshot.version();
        if until.is_some_and(|until| version > until) {
            return Err(Unusable);
        }
        let Ok(Ok(state)) = caught(|| snapshots.restore(snapshot)) else {
            tracing::warn!(%stream, %version, "ignored a snapshot that cannot be decoded");
            self.snapshot.unusable = Some(version);
            return Err(Unusable);
        };
        self.restore(state, snapshot);
        Ok(())
    }
}

/// The size of the first page of a load from a snapshot whose version is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstPage {
    /// It has few commits, which is cheap. If there are more after the snapshot, they take another request.
    Short,
    /// It has all commits that are expected after the snapshot, because a command should take one read.
    Whole,
}

/// The state of a repository's snapshots: the pending writes, and what helps to read no more than necessary.
#[derive(Default)]
pub(super) struct Snapshotting {
    /// The recent maximum of commits in a tail, for which a load should ask.
    usual_tail: AtomicU64,
    pub(super) known: Arc<KnownSnapshots>,
    pending: Arc<Pending>,
}

/// The versions of the snapshots that were last read or written, of a bounded number of streams (64 KB). Streams
/// overwrite each other, and a hash that two streams share returns a wrong version, so a version is only a hint.
#[derive(Default)]
pub(super) struct KnownSnapshots {
    /// The upper bits of a stream's hash, and a version in the lower ones.
    slots: OnceLock<Box<[AtomicU64]>>,
    hasher: RandomState,
}

impl KnownSnapshots {
    const SLOTS: usize = 8192;
    /// The bits of a version: [`Version::MAX`] has as many.
    const VERSION: u64 = (1 << 40) - 1;

    /// Returns the known version of a stream's snapshot, or [`Version::NONE`].
    pub(super) fn get(&self, stream: &StreamId) -> Version {
        let Some(slots) = self.slots.get() else { return Version::NONE };
        let hash = self.hasher.hash_one(stream);
        let slot = slots[hash as usize % Self::SLOTS].load(Ordering::Relaxed);
        Version::new(if (slot ^ hash) & !Self::VERSION == 0 { slot & Self::VERSION } else { 0 })
    }

    pub(super) fn put(&self, stream: &StreamId, version: Version) {
        let slots = self.slots.get_or_init(|| (0..Self::SLOTS).map(|_| AtomicU64::new(0)).collect());
        let hash = self.hasher.hash_one(stream);
        let slot = hash & !Self::VERSION | version.get() & Self::VERSION;
        slots[hash as usize % Self::SLOTS].store(slot, Ordering::Relaxed);
    }
}

/// The streams whose snapshots are being written.
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

/// Guard for one in-flight snapshot write.
struct PendingWrite {
    pending: Arc<Pending>,
    stream: StreamId,
}

impl PendingWrite {
    /// Returns `None` if a snapshot of the stream is being written already.
    fn new(pending: &Arc<Pending>, stream: &StreamId) -> Option<Self> {
        let is_first = pending.streams().insert(stream.clone());
        is_first.then(|| Self { pending: Arc::clone(pending), stream: stream.clone() })
    }
}

impl Drop for PendingWrite {
    fn drop(&mut self) {
        let mut streams = self.pending.streams();
        streams.remove(&self.stream);
        if streams.is_empty() {
            self.pending.done.notify(usize::MAX);
        }
    }
}

impl Snapshotting {
    /// Returns the number of commits after a snapshot for which the first page should have room; `None` if snapshots
    /// are not used. `known` is the known version of the snapshot.
    pub(super) fn longest_tail(
        &self,
        policy: SnapshotPolicy,
        first: FirstPage,
        known: Version,
    ) -> Option<u32> {
        let usual = self.usual_tail.load(Ordering::Relaxed);
        let expected = match policy {
            SnapshotPolicy::Never => return None,
            // `events` events are at most `events` commits, because each commit has at least one event.
            SnapshotPolicy::Every(events) if usual == 0 => events.max(1),
            SnapshotPolicy::Every(events) => (usual + MARGIN).min(u64::from(events.max(1))) as u32,
            SnapshotPolicy::Adaptive => usual.clamp(8, 1_000) as u32,
        };
        // If the version of the snapshot is known, a page has no older commits, for which a limit would be needed.
        let is_short = first == FirstPage::Short && known.is_none();
        Some(if is_short { expected.min(SHORT_TAIL) } else { expected })
    }

    /// Waits until all pending snapshot writes have completed or failed.
    pub(super) async fn flush(&self) {
        while !self.pending.streams().is_empty() {
            let listener = self.pending.done.listen();
            if !self.pending.streams().is_empty() {
                listener.await;
            }
        }
    }

    /// Updates the usual length of a tail. It rises at once and falls slowly: an underestimate costs a request, an
    /// overestimate only a few read units.
    fn learn(&self, commits: u64) {
        let usual = self.usual_tail.load(Ordering::Relaxed);
        self.usual_tail.store(commits.max(usual - usual / 8), Ordering::Relaxed);
    }
}

impl<A: Aggregate> Inner<A> {
    /// Returns how the aggregate's snapshots are used, with the policy of this repository; `None` if they are not.
    pub(super) fn usable_snapshots(&self) -> Option<Snapshots<A>> {
        let snapshots = A::snapshots()?;
        let policy = self.snapshots.unwrap_or_else(|| snapshots.policy());
        (policy != SnapshotPolicy::Never).then(|| snapshots.with_policy(policy))
    }

    /// Starts to write a snapshot of `fold` in the background if one is due, and returns what is known about the
    /// snapshot then. The command does not depend on it.
    pub(super) fn take_snapshot(
        &self,
        stream: &StreamId,
        fold: &Fold<A>,
        mut info: SnapshotInfo,
    ) -> SnapshotInfo {
        let Some(snapshots) = self.usable_snapshots() else { return info };
        let due = match snapshots.policy() {
            SnapshotPolicy::Never => false,
            SnapshotPolicy::Every(events) => fold.version.since(info.version) >= u64::from(events.max(1)),
            SnapshotPolicy::Adaptive => info.tail.bytes > info.bytes.max(MIN_TAIL_BYTES),
        };
        let Some(time) = fold.time.filter(|_| due) else { return info };
        let Some(pending) = PendingWrite::new(&self.snapshotting.pending, stream) else { return info };
        // A panic must not look like a failure of the command, whose events are recorded.
        let taken = caught(|| {
            let taken = snapshots.take(&fold.state, fold.version, time);
            let snapshot = taken.map_err(|_| "the state has no JSON form".to_owned())?;
            snapshots.check(&fold.state, &snapshot)?;
            Ok::<_, String>(snapshot)
        });
        let snapshot = match taken {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(reason)) => {
                failed::<A>(stream, fold.version, &reason);
                return info;
            }
            Err(panic) => {
                failed::<A>(stream, fold.version, &panic.to_string());
                return info;
            }
        };
        self.snapshotting.learn(info.tail.commits);
        let replaces = info.unusable.take();
        info.note(&snapshot);

        let (store, stream) = (Arc::clone(&self.store), stream.clone());
        let known = Arc::clone(&self.snapshotting.known);
        self.store.spawn(
            async move {
                match store.write_snapshot(&stream, &snapshot, replaces).await {
                    Ok(cost) => {
                        measure::snapshot(A::NAME, "written");
                        known.put(&stream, snapshot.version());
                        tracing::debug!(%stream, version = %snapshot.version(), %cost, "wrote a snapshot");
                    }
                    Err(error) => failed::<A>(&stream, snapshot.version(), &error_text(&error)),
                }
                drop(pending);
            }
            .boxed(),
        );
        info
    }
}

fn failed<A: Aggregate>(stream: &StreamId, version: Version, error: &str) {
    measure::snapshot(A::NAME, "failed");
    tracing::warn!(%stream, %version, error, "could not write a snapshot");
}
