//! The watermarks as a writer knows them: recent ones in memory, all others in the summary.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use es_core::StoreError;
use es_core::feed::Position;
use uuid::Uuid;

#[cfg(test)]
use super::Shape;
use super::Sharing;
use super::bounded::Bounded;
use super::node::{Node, NodeId, Place, Root, Run};
use super::part::{Kind, PartKey, Scope, decode_marks, passes};
use crate::feed::log::marks::{Mark, StreamHash};
use crate::feed::log::storage::{Storage, StoredRoot};
use crate::table::Consistency;

/// The maximum number of streams that are looked up at once.
const HASHES_AT_ONCE: usize = 128;

/// The approximate size in bytes of an entry of a cache, in addition to its content.
const ENTRY_BYTES: u64 = 160;

/// A part in memory.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Node(Arc<Node>),
    Marks(Arc<Vec<(StreamHash, Mark)>>),
    Filter(Arc<[u8]>),
}

/// A part of a version: the key, and the id of the node or the run.
pub(super) type Wanted = (PartKey, Uuid);

pub(super) type Loaded = HashMap<Wanted, Content>;

/// The watermarks of a log up to some position.
///
/// A watermark is among the unwritten ones if it has changed since the last run was written. Otherwise, it is in the
/// summary, and may be in the cache.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) scope: Scope,
    sharing: Sharing,
    /// Whether streams that are not in this tree may have watermarks in the log of the parent.
    inherits: bool,
    /// The root, or `None` if no summary is used.
    pub(super) root: Option<Root>,
    /// The id of the stored root, whether or not it is used.
    pub(super) stored: Option<Uuid>,
    /// The changed watermarks, and the positions of the ends of their pages.
    pub(super) unwritten: BTreeMap<StreamHash, (Mark, Position)>,
    marks: Bounded<StreamHash, Mark>,
    parts: Bounded<Wanted, Content>,
    /// The number of the open job of another writer, which was found before.
    pub(super) seen_open: Option<u64>,
    /// The highest number of a job that was found in a part.
    pub(super) highest_job: u64,
}

impl Tree {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            sharing: Sharing::between(1),
            inherits: false,
            root: None,
            stored: None,
            unwritten: BTreeMap::new(),
            marks: Bounded::new(scope.shape.cached_marks),
            parts: Bounded::new(scope.shape.cached_bytes),
            seen_open: None,
            highest_job: 0,
        }
    }

    /// Shares the memory for caches with other slices.
    pub(crate) fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// Sets whether the log continues that of a parent.
    pub(crate) fn inherits(mut self, inherits: bool) -> Self {
        self.inherits = inherits;
        self
    }

    /// Returns a tree that uses `root` and nothing else.
    pub(crate) fn at(scope: Scope, root: Root) -> Self {
        let mut tree = Self::new(scope);
        tree.root = Some(root);
        tree
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns the number of watermarks that have changed since the last run was written.
    pub(crate) fn changed(&self) -> usize {
        self.unwritten.len()
    }

    /// Returns the position of the last event that the summary in use includes.
    pub(crate) fn through(&self) -> Position {
        self.root.as_ref().map_or(Position::NONE, |root| root.through)
    }

    /// Returns the id of the stored root as this process knows it, whether or not it is used.
    pub(crate) fn stored(&self) -> Option<Uuid> {
        self.stored
    }

    /// Forgets everything, and uses `root`, if there is one that can be used.
    pub(crate) fn reset(&mut self, stored: &StoredRoot, root: Option<Root>) {
        self.stored = stored.id();
        self.root = root;
        self.unwritten.clear();
        self.marks.clear();
    }

    /// Replaces the root by one that includes at least as much, but not more than the writer has read.
    pub(crate) fn follow(&mut self, root: Root) {
        debug_assert!(root.through >= self.through(), "watermarks between the two would be forgotten");
        let written = self.unwritten.extract_if(.., |_, (_, position)| *position <= root.through);
        for (hash, (mark, _)) in written {
            self.marks.insert(hash, mark, 1);
        }
        (self.stored, self.root) = (Some(root.id), Some(root));
    }

    /// Sets the watermark of a stream, which has changed in the page that ends at `position`.
    pub(crate) fn set(&mut self, hash: StreamHash, mark: Mark, position: Position) {
        self.unwritten.insert(hash, (mark, position));
    }

    /// Returns the watermark of a stream if it is in memory.
    pub(crate) fn known(&self, hash: StreamHash) -> Option<Mark> {
        let in_memory = self.unwritten.get(&hash).map(|(mark, _)| *mark);
        let is_empty =
            self.root.as_ref().is_none_or(|root| root.node.runs.is_empty() && root.node.children.is_empty());
        let is_new = is_empty && !self.inherits;
        in_memory.or_else(|| self.marks.get(&hash).copied()).or(is_new.then(Mark::default))
    }

    /// Keeps watermarks of the parent, whose streams have none in this tree.
    pub(crate) fn inherit(&mut self, marks: &BTreeMap<StreamHash, Mark>) {
        for (hash, mark) in marks.iter().filter(|(_, mark)| !mark.version.is_none()) {
            self.marks.insert(*hash, *mark, 1);
        }
    }

    /// Returns the watermarks of streams, except those that are in no summary. Returns `None` if a part of the summary
    /// is missing, damaged, or replaced.
    pub(crate) async fn marks(
        &mut self,
        storage: &dyn Storage,
        hashes: &[StreamHash],
    ) -> Result<Option<BTreeMap<StreamHash, Mark>>, StoreError> {
        let (shape, slices) = (self.scope.shape, self.sharing.slices());
        self.marks.set_limit(shape.cached_marks / slices);
        self.parts.set_limit(shape.cached_bytes / slices);
        let mut found = BTreeMap::new();
        let mut unknown = Vec::new();
        for hash in hashes {
            match self.known(*hash) {
                Some(mark) => drop(found.insert(*hash, mark)),
                None => unknown.push(*hash),
            }
        }
        for some in unknown.chunks(HASHES_AT_ONCE) {
            let Some(stored) = self.search(storage, some).await? else { return Ok(None) };
            for (hash, mark) in &stored {
                self.marks.insert(*hash, *mark, 1);
            }
            found.extend(stored);
        }
        Ok(Some(found))
    }

    /// Searches for streams in the summary, from the newest runs to the oldest.
    async fn search(
        &mut self,
        storage: &dyn Storage,
        hashes: &[StreamHash],
    ) -> Result<Option<BTreeMap<StreamHash, Mark>>, StoreError> {
        let mut found = BTreeMap::new();
        let root = Arc::new(self.root.as_ref().map(|root| root.node.clone()).unwrap_or_default());
        let mut open: Vec<(StreamHash, Place, Arc<Node>)> =
            hashes.iter().map(|hash| (*hash, Place::of(*hash), Arc::clone(&root))).collect();
        while !open.is_empty() {
            let filters = open
                .iter()
                .flat_map(|(_, place, node)| node.runs.iter().map(|run| self.scope.filter_of(*place, run)));
            let Some(filters) = self.load(storage, filters.collect()).await? else { return Ok(None) };
            let may_have = |hash, place, run: &Run| match filters.get(&self.scope.filter_of(place, run)) {
                Some(Content::Filter(filter)) => passes(filter, hash),
                _ => true,
            };
            let candidates: Vec<Vec<Wanted>> = open
                .iter()
                .map(|(hash, place, node)| {
                    let runs = node.runs.iter().rev().filter(|run| may_have(*hash, *place, run));
                    runs.map(|run| chunk_of(*place, run)).collect()
                })
                .collect();
            let chunks = candidates.iter().flatten().copied().collect();
            let Some(chunks) = self.load(storage, chunks).await? else { return Ok(None) };
            let mut below = Vec::new();
            for ((hash, place, node), candidates) in open.into_iter().zip(candidates) {
                let mark_in = |chunk| match chunks.get(chunk) {
                    Some(Content::Marks(marks)) => {
                        let index = marks.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
                        Some(marks[index].1)
                    }
                    _ => None,
                };
                if let Some(mark) = candidates.iter().find_map(mark_in) {
                    found.insert(hash, mark);
                } else if let Some((place, child)) = self.scope.child_of(place, &node) {
                    below.push((hash, place, child));
                }
            }
            let nodes = below.iter().map(|(_, _, child)| *child).collect();
            let Some(nodes) = self.load(storage, nodes).await? else { return Ok(None) };
            let child = |(hash, place, child)| match nodes.get(&child) {
                Some(Content::Node(node)) => Some((hash, place, Arc::clone(node))),
                _ => None,
            };
            open = below.into_iter().filter_map(child).collect();
        }
        Ok(Some(found))
    }

    /// Returns parts from the cache or the storage, or `None` if one is missing, damaged, or replaced.
    pub(super) async fn load(
        &mut self,
        storage: &dyn Storage,
        wanted: BTreeSet<Wanted>,
    ) -> Result<Option<Loaded>, StoreError> {
        let mut loaded = Loaded::with_capacity(wanted.len());
        let mut missing = Vec::new();
        for part in wanted {
            match self.parts.get(&part) {
                Some(content) => drop(loaded.insert(part, content.clone())),
                None => missing.push(part),
            }
        }
        // A replica that lags behind may have another part.
        for consistency in [Consistency::Eventual, Consistency::Strong] {
            if missing.is_empty() {
                break;
            }
            let keys: Vec<PartKey> = missing.iter().map(|(key, _)| *key).collect();
            let found = storage.parts(self.scope.slice, &keys, consistency).await?;
            missing.retain(|part| {
                let content = found.get(&part.0).and_then(|bytes| self.scope.decode(*part, bytes));
                let Some(content) = content else { return true };
                // Watermarks are cached individually.
                if !matches!(content, Content::Marks(_)) {
                    self.parts.insert(*part, content.clone(), content.bytes());
                }
                loaded.insert(*part, content);
                false
            });
        }
        Ok(missing.is_empty().then_some(loaded))
    }
}

/// The maximum size in bytes of a watermark in memory, with the unused capacity of its map.
#[cfg(test)]
const MARK_BYTES: u64 = 112;

#[cfg(test)]
impl Tree {
    /// Returns the approximate size in memory.
    pub(super) fn bytes(&self) -> u64 {
        (self.unwritten.len() as u64 + self.marks.len()) * MARK_BYTES + self.parts.weight()
    }

    pub(crate) fn take_cache(&mut self, other: Self) {
        self.parts = other.parts;
    }

    /// Returns the maximum size in memory, with a merge.
    pub(super) fn most_bytes(shape: Shape) -> u64 {
        let merged = (shape.leaf + shape.merge_now * shape.run) as u64;
        (shape.unwritten as u64 + shape.cached_marks) * MARK_BYTES + shape.cached_bytes + merged * 3 * 32
    }
}

impl Content {
    fn bytes(&self) -> u64 {
        let content = match self {
            Self::Node(node) => size_of_val(&*node.runs) + size_of_val(&*node.children),
            Self::Marks(marks) => size_of_val(&***marks),
            Self::Filter(filter) => filter.len(),
        };
        content as u64 + ENTRY_BYTES
    }
}

impl Scope {
    fn decode(&self, (key, id): Wanted, bytes: &[u8]) -> Option<Content> {
        let content = self.open(key, id, bytes)?;
        Some(match key.kind {
            Kind::Node => Content::Node(Arc::new(Node::decode(content, self.shape.fanout)?)),
            Kind::Marks => Content::Marks(Arc::new(decode_marks(content)?)),
            Kind::Filter => Content::Filter(content.into()),
        })
    }

    /// Returns the filter that covers a place in a run.
    fn filter_of(&self, place: Place, run: &Run) -> Wanted {
        let index = place.chunk(run.chunks) / self.shape.chunks_per_filter;
        (PartKey { node: place.node, kind: Kind::Filter, slot: run.slot, index }, run.id)
    }

    /// Returns the child that is responsible for a place, if it has watermarks.
    fn child_of(&self, place: Place, node: &Node) -> Option<(Place, Wanted)> {
        let place = place.in_child(self.shape.fanout);
        let (_, index) = place.node.parent(self.shape.fanout)?;
        let child = (*node.children.get(index)?)?;
        Some((place, (node_key(place.node, child.slot), child.id)))
    }
}

/// Returns the chunk for a place in a run.
fn chunk_of(place: Place, run: &Run) -> Wanted {
    let index = place.chunk(run.chunks);
    (PartKey { node: place.node, kind: Kind::Marks, slot: run.slot, index }, run.id)
}

/// Returns the key of a version of a node.
pub(super) fn node_key(node: NodeId, slot: u32) -> PartKey {
    PartKey { node, kind: Kind::Node, slot, index: 0 }
}
