//! Jobs: each writes the changed watermarks as a new run, merges nodes with many runs, and replaces the root.
//!
//! A job first claims a number by replacing the root, so that two writers rarely do the same work. A part is only
//! written over one with a lower number. Therefore, a writer that was presumed dead can neither replace the root, which
//! has changed, nor overwrite the parts of a later job.

use std::collections::{BTreeMap, HashMap};

use es_core::StoreError;
use es_core::feed::Position;
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::node::{Child, Node, NodeId, Place, Root, Run};
use super::part::{Kind, PartKey};
use super::tree::{Content, Tree, Wanted, node_key};
use crate::feed::log::marks::{Mark, StreamHash};
use crate::feed::log::storage::{PutPart, Storage, StoredRoot};

/// How many parts are written concurrently.
const PUTS_AT_ONCE: usize = 16;

/// Why a job was not completed.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// Another writer is at work, or was presumed dead and is not.
    Postponed,
    /// Another writer has replaced the root.
    Outdated(StoredRoot),
    /// A part of the summary is missing, damaged, or replaced.
    Lost,
    Store(StoreError),
}

impl From<StoreError> for Unfinished {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The nodes that a job has read or changed, each with its stored version.
#[derive(Default)]
struct Draft {
    number: u64,
    nodes: BTreeMap<NodeId, Drafted>,
}

#[derive(Default)]
struct Drafted {
    stored: Node,
    node: Node,
    /// The slots that the job has written, including those of runs that it has merged since.
    written: Vec<u32>,
}

impl Drafted {
    fn of(node: &Node) -> Self {
        Self { stored: node.clone(), node: node.clone(), written: Vec::new() }
    }

    /// Takes the first slot that neither the stored version nor this job has used.
    fn take_slot(&mut self) -> u32 {
        let is_used =
            |slot: &u32| self.stored.runs.iter().any(|run| run.slot == *slot) || self.written.contains(slot);
        let slot = (0..).find(|slot| !is_used(slot)).unwrap_or_default();
        self.written.push(slot);
        slot
    }
}

impl Tree {
    /// Writes the changed watermarks, which are those up to `through`, the last position of the page with the id
    /// `page`.
    ///
    /// Whatever happens, the stored summary remains usable, and no watermark is lost from memory before it is stored.
    pub(crate) async fn write(
        &mut self,
        storage: &dyn Storage,
        through: Position,
        page: Uuid,
    ) -> Result<(), Unfinished> {
        let number = self.claim(storage).await?;
        let claimed = self.root.clone().ok_or(Unfinished::Lost)?;
        let mut draft = Draft { number, ..Draft::default() };
        draft.nodes.insert(NodeId::ROOT, Drafted::of(&claimed.node));
        let marks: Vec<_> = self.unwritten.iter().map(|(hash, (mark, _))| (*hash, *mark)).collect();
        self.put_run(storage, &mut draft, NodeId::ROOT, &marks).await?;
        let shape = self.scope.shape;
        while let Some(node) = self.fullest(storage, &mut draft).await? {
            self.merge(storage, &mut draft, node).await?;
            if draft.root().fullest() < shape.merge_now {
                // The others are merged by the following jobs.
                break;
            }
        }
        self.put_nodes(storage, &mut draft).await?;
        let node = draft.root().clone();
        let root = Root { through, page, id: Uuid::new_v4(), job: number, open: false, node };
        if !storage.put_root(&self.scope, Some(claimed.id), &root).await? {
            return Err(Unfinished::Postponed);
        }
        self.follow(root);
        Ok(())
    }

    /// Claims the next number, unless another writer may be at work.
    async fn claim(&mut self, storage: &dyn Storage) -> Result<u64, Unfinished> {
        let stored = storage.root(&self.scope).await?;
        if stored.id() != self.stored {
            return Err(Unfinished::Outdated(stored));
        }
        let mut last = 0;
        if let StoredRoot::Root(root) = &stored {
            last = root.job;
            if root.open && self.seen_open.replace(root.job) != Some(root.job) {
                return Err(Unfinished::Postponed);
            }
        }
        let number = last.max(self.highest_job) + 1;
        let unused = Root {
            through: Position::NONE,
            page: Uuid::nil(),
            id: Uuid::nil(),
            job: 0,
            open: true,
            node: Node::default(),
        };
        let claimed =
            Root { id: Uuid::new_v4(), job: number, open: true, ..self.root.clone().unwrap_or(unused) };
        if !storage.put_root(&self.scope, self.stored, &claimed).await? {
            return Err(Unfinished::Postponed);
        }
        // Its next attempt does not wait for this one.
        self.seen_open = Some(number);
        (self.stored, self.root) = (Some(claimed.id), Some(claimed));
        Ok(number)
    }

    /// Returns a node whose runs must be merged, the one closest to the root. Reads its ancestors.
    async fn fullest(
        &mut self,
        storage: &dyn Storage,
        draft: &mut Draft,
    ) -> Result<Option<NodeId>, Unfinished> {
        let mut id = NodeId::ROOT;
        loop {
            self.draft_node(storage, draft, id).await?;
            let node = &draft.nodes[&id].node;
            if node.runs.len() >= self.scope.shape.merge_at {
                return Ok(Some(id));
            }
            let children = (0..).zip(&node.children);
            let children = children.filter_map(|(index, child)| Some((child.as_ref()?.fullest, index)));
            match children.max() {
                Some((fullest, child)) if fullest as usize >= self.scope.shape.merge_at => {
                    id = id.child(self.scope.shape.fanout, child);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Adds the stored version of a node to the draft, which must have its parent.
    async fn draft_node(
        &mut self,
        storage: &dyn Storage,
        draft: &mut Draft,
        id: NodeId,
    ) -> Result<(), Unfinished> {
        if draft.nodes.contains_key(&id) {
            return Ok(());
        }
        let stored = draft.stored_child(id, self.scope.shape.fanout);
        let drafted = match stored {
            None => Drafted::default(),
            Some(Child { id: version, slot, .. }) => {
                let part: Wanted = (node_key(id, slot), version);
                let loaded = self.load(storage, [part].into()).await?.ok_or(Unfinished::Lost)?;
                let Some(Content::Node(node)) = loaded.get(&part) else { return Err(Unfinished::Lost) };
                Drafted::of(node)
            }
        };
        draft.nodes.insert(id, drafted);
        Ok(())
    }

    /// Merges the runs of a node.
    async fn merge(
        &mut self,
        storage: &dyn Storage,
        draft: &mut Draft,
        id: NodeId,
    ) -> Result<(), Unfinished> {
        let (fanout, leaf) = (self.scope.shape.fanout, self.scope.shape.leaf);
        let drafted = draft.nodes.entry(id).or_default();
        let runs = std::mem::take(&mut drafted.node.runs);
        let is_leaf = drafted.node.children.is_empty();
        let marks = self.merged(storage, id, &runs).await?;
        if is_leaf && (marks.len() <= leaf || !id.may_have_children()) {
            self.put_run(storage, draft, id, &marks).await?;
        } else {
            if is_leaf {
                draft.nodes.entry(id).or_default().node.children = vec![None; fanout as usize];
            }
            let child_of = |hash| Place::within(hash, id, fanout).in_child(fanout).node;
            for marks in marks.chunk_by(|(a, _), (b, _)| child_of(*a) == child_of(*b)) {
                let child = child_of(marks[0].0);
                self.draft_node(storage, draft, child).await?;
                self.put_run(storage, draft, child, marks).await?;
            }
        }
        draft.count_runs(id, fanout);
        Ok(())
    }

    /// Returns the newest watermark of each stream in runs of a node, sorted.
    async fn merged(
        &mut self,
        storage: &dyn Storage,
        node: NodeId,
        runs: &[Run],
    ) -> Result<Vec<(StreamHash, Mark)>, Unfinished> {
        let chunks = |run: &Run| {
            let Run { id, slot, chunks } = *run;
            (0..chunks).map(move |index| (PartKey { node, kind: Kind::Marks, slot, index }, id))
        };
        let loaded = self.load(storage, runs.iter().flat_map(chunks).collect()).await?;
        let loaded = loaded.ok_or(Unfinished::Lost)?;
        let mut all = Vec::new();
        for chunk in runs.iter().rev().flat_map(chunks) {
            let Some(Content::Marks(marks)) = loaded.get(&chunk) else { return Err(Unfinished::Lost) };
            all.extend_from_slice(marks);
        }
        // Stable, so that the first watermark of a stream is the newest.
        all.sort_by_key(|(hash, _)| *hash);
        all.dedup_by_key(|(hash, _)| *hash);
        Ok(all)
    }

    /// Writes a run of a node, and adds it to the draft.
    async fn put_run(
        &mut self,
        storage: &dyn Storage,
        draft: &mut Draft,
        node: NodeId,
        marks: &[(StreamHash, Mark)],
    ) -> Result<(), Unfinished> {
        let number = draft.number;
        let drafted = draft.nodes.entry(node).or_default();
        let run =
            Run { id: Uuid::new_v4(), slot: drafted.take_slot(), chunks: self.scope.chunks(marks.len()) };
        let parts = self.scope.run(node, run.id, run.slot, marks);
        self.put_parts(storage, number, parts).await?;
        drafted.node.runs.push(run);
        Ok(())
    }

    /// Writes all changed nodes except the root, children first.
    async fn put_nodes(&mut self, storage: &dyn Storage, draft: &mut Draft) -> Result<(), Unfinished> {
        let fanout = self.scope.shape.fanout;
        let ids: Vec<NodeId> = draft.nodes.keys().rev().copied().collect();
        let mut parts = Vec::new();
        for id in ids {
            let Drafted { stored, node, .. } = &draft.nodes[&id];
            let Some((parent, index)) = id.parent(fanout).filter(|_| stored != node) else { continue };
            let slot = draft.stored_child(id, fanout).map_or(0, |child| 1 - child.slot.min(1));
            let child = Child { id: Uuid::new_v4(), slot, fullest: node.fullest() as u32 };
            let key = node_key(id, slot);
            parts.push((key, self.scope.seal(key, child.id, &node.encode())));
            if let Some(place) =
                draft.nodes.get_mut(&parent).and_then(|parent| parent.node.children.get_mut(index))
            {
                *place = Some(child);
            }
        }
        self.put_parts(storage, draft.number, parts).await
    }

    async fn put_parts(
        &mut self,
        storage: &dyn Storage,
        number: u64,
        parts: Vec<(PartKey, Vec<u8>)>,
    ) -> Result<(), Unfinished> {
        let slice = self.scope.slice;
        let puts = parts.into_iter().map(|(key, bytes)| storage.put_part(slice, key, number, bytes));
        let mut puts = stream::iter(puts).buffer_unordered(PUTS_AT_ONCE);
        while let Some(put) = puts.try_next().await? {
            if let PutPart::Refused(job) = put {
                self.highest_job = self.highest_job.max(job);
                return Err(Unfinished::Postponed);
            }
        }
        Ok(())
    }
}

impl Draft {
    fn root(&self) -> &Node {
        &self.nodes[&NodeId::ROOT].node
    }

    /// Returns the stored version of a node.
    fn stored_child(&self, id: NodeId, fanout: u32) -> Option<Child> {
        let (parent, index) = id.parent(fanout)?;
        *self.nodes.get(&parent)?.stored.children.get(index)?
    }

    /// Updates the numbers of runs of a node's children, of the node, and of its ancestors.
    fn count_runs(&mut self, id: NodeId, fanout: u32) {
        let children =
            self.nodes.iter().filter(|(child, _)| child.parent(fanout).is_some_and(|(of, _)| of == id));
        let counts: HashMap<NodeId, u32> =
            children.map(|(child, drafted)| (*child, drafted.node.fullest() as u32)).collect();
        for (child, fullest) in counts {
            self.count(child, fullest, fanout);
        }
        let mut id = id;
        while let Some((parent, _)) = id.parent(fanout) {
            let fullest = self.nodes[&id].node.fullest() as u32;
            self.count(id, fullest, fanout);
            id = parent;
        }
    }

    fn count(&mut self, id: NodeId, fullest: u32, fanout: u32) {
        let Some((parent, index)) = id.parent(fanout) else { return };
        if let Some(place) =
            self.nodes.get_mut(&parent).and_then(|parent| parent.node.children.get_mut(index))
        {
            let child = place.get_or_insert(Child { id: Uuid::nil(), slot: 0, fullest });
            child.fullest = fullest;
        }
    }
}
