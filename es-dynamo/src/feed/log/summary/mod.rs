//! Summaries of the watermarks, so that a writer neither reads the whole log nor keeps a watermark for every stream.
//!
//! A summary is a tree of nodes. Each node is responsible for a range of hashes, and contains *runs*: sorted
//! watermarks, each run newer than the one before it. A writer adds the watermarks that have changed as a new run of
//! the root. When a node has enough runs, they are merged. The result becomes the only run of a leaf, or is distributed
//! among the children, which share the range of the node. Therefore, each watermark is rewritten about once for each
//! level, a merge has a bounded size, and a lookup reads the runs of one node per level. Each run has Bloom filters,
//! which show for almost all runs that they do not contain a stream.
//!
//! The root refers to the ids of its runs and children, and they refer to theirs. Nothing that a stored root refers to
//! is ever overwritten, so that replacing the root, on the condition that it is unchanged, replaces the summary. A part
//! that is no longer referred to is overwritten by a later job, and no longer has the expected id.
//!
//! A summary is a cache. If it is missing, damaged, or of another log, more of the log is read.

pub(crate) mod bounded;
pub(crate) mod job;
pub(crate) mod node;
pub(crate) mod part;
#[cfg(test)]
mod scale;
pub(crate) mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of slices of a feed, whose caches share the memory. It grows with each split.
#[derive(Clone, Debug)]
pub(crate) struct Sharing(Arc<AtomicU64>);

impl Sharing {
    pub(crate) fn between(slices: u64) -> Self {
        Self(Arc::new(AtomicU64::new(slices)))
    }

    pub(crate) fn set(&self, slices: u64) {
        self.0.store(slices, Ordering::Relaxed);
    }

    fn slices(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(1)
    }
}

/// The limits of a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The number of children of a node. Part of the format.
    pub(crate) fanout: u32,
    /// The number of runs at which those of a node are merged.
    pub(crate) merge_at: usize,
    /// The number of runs at which a merge is not postponed any further.
    pub(crate) merge_now: usize,
    /// The maximum number of watermarks of a merged leaf. With more, it gets children.
    pub(crate) leaf: usize,
    /// The average number of watermarks in a chunk of a run.
    pub(crate) chunk: usize,
    /// The number of chunks that share a filter. Part of the format.
    pub(crate) chunks_per_filter: u32,
    /// The number of changed watermarks that are written as a run.
    pub(crate) run: usize,
    /// The size in bytes of the pages after which a run is written even if it has fewer watermarks.
    pub(crate) run_bytes: u64,
    /// The maximum number of changed watermarks in memory. With more, a run must be written.
    pub(crate) unwritten: usize,
    /// The maximum number of unchanged watermarks in memory. The slices of a feed share it.
    pub(crate) cached_marks: u64,
    /// The maximum size in bytes of the nodes and filters in memory. The slices of a feed share it.
    pub(crate) cached_bytes: u64,
}

impl Shape {
    /// Chunks and filters have about 4 KB, which is the size of a read unit.
    pub(crate) const DEFAULT: Self = Self {
        fanout: 24,
        merge_at: 24,
        merge_now: 40,
        leaf: 96 * 1024,
        chunk: 192,
        chunks_per_filter: 16,
        run: 8 * 1024,
        run_bytes: 512 * 1024,
        unwritten: 128 * 1024,
        cached_marks: 256 * 1024,
        cached_bytes: 144 * 1024 * 1024,
    };

    #[cfg(not(test))]
    pub(crate) const USED: Self = Self::DEFAULT;
    #[cfg(test)]
    pub(crate) const USED: Self = Self::TINY;

    /// Very small limits, so that short logs have deep trees.
    #[cfg(test)]
    pub(crate) const TINY: Self = Self {
        fanout: 3,
        merge_at: 3,
        merge_now: 5,
        leaf: 8,
        chunk: 3,
        chunks_per_filter: 2,
        run: 6,
        run_bytes: 600,
        unwritten: 64,
        cached_marks: 8,
        cached_bytes: 2 * 1024,
    };
}
