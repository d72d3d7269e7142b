//! The nodes of a summary, and the places of hashes in them.

use es_core::feed::Position;
use uuid::Uuid;

use super::part::{push_number, take_number};
use crate::feed::log::marks::StreamHash;

/// The maximum depth of a node, which is never reached.
const MAX_DEPTH: u8 = 12;

/// The place of a node in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId {
    pub(crate) depth: u8,
    /// The number of the node among all nodes of its depth, in the order of their hashes.
    pub(crate) index: u64,
}

impl NodeId {
    pub(crate) const ROOT: Self = Self { depth: 0, index: 0 };

    pub(crate) fn child(self, fanout: u32, child: u64) -> Self {
        Self { depth: self.depth + 1, index: self.index * u64::from(fanout) + child }
    }

    /// Returns the parent, and the number of this node among its children.
    pub(crate) fn parent(self, fanout: u32) -> Option<(Self, usize)> {
        let depth = self.depth.checked_sub(1)?;
        let fanout = u64::from(fanout);
        Some((Self { depth, index: self.index / fanout }, (self.index % fanout) as usize))
    }

    pub(crate) fn may_have_children(self) -> bool {
        self.depth < MAX_DEPTH
    }
}

/// The place of a hash in a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    /// The place in the range of the node, as a fraction of 2⁶⁴.
    fraction: u64,
}

impl Place {
    /// Returns the place of a hash in the root.
    pub(crate) fn of(hash: StreamHash) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = hash.0;
        Self { node: NodeId::ROOT, fraction: u64::from_be_bytes([a, b, c, d, e, f, g, h]) }
    }

    /// Returns the place of a hash in a node that is responsible for it.
    pub(crate) fn within(hash: StreamHash, node: NodeId, fanout: u32) -> Self {
        (0..node.depth).fold(Self::of(hash), |place, _| place.in_child(fanout))
    }

    /// Returns the place in the child that is responsible for the hash.
    pub(crate) fn in_child(self, fanout: u32) -> Self {
        let product = u128::from(self.fraction) * u128::from(fanout);
        Self { node: self.node.child(fanout, (product >> 64) as u64), fraction: product as u64 }
    }

    /// Returns the number of the chunk for the hash in a run of `chunks` chunks.
    pub(crate) fn chunk(self, chunks: u32) -> u32 {
        ((u128::from(self.fraction) * u128::from(chunks)) >> 64) as u32
    }
}

/// A reference to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: Uuid,
    /// The place of its chunks and filters among those of the node's runs.
    pub(crate) slot: u32,
    pub(crate) chunks: u32,
}

/// A reference to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// The id of this version of the child.
    pub(crate) id: Uuid,
    /// Where this version is stored.
    pub(crate) slot: u32,
    /// The maximum number of runs of a node among the child and its descendants.
    pub(crate) fullest: u32,
}

/// A version of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// The runs, oldest first.
    pub(crate) runs: Vec<Run>,
    /// The children, or nothing in a leaf. A child without watermarks is `None`.
    pub(crate) children: Vec<Option<Child>>,
}

/// The maximum number of runs of a stored node.
const MAX_RUNS: u64 = 10_000;

/// The maximum number of chunks of a stored run.
const MAX_CHUNKS: u64 = 1_000_000;

impl Node {
    /// Returns the number of runs of the node or the descendant that has the most.
    pub(crate) fn fullest(&self) -> usize {
        let children = self.children.iter().flatten().map(|child| child.fullest as usize);
        children.fold(self.runs.len(), usize::max)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_number(&mut bytes, self.runs.len() as u64);
        for run in &self.runs {
            bytes.extend(run.id.as_bytes());
            push_number(&mut bytes, run.slot.into());
            push_number(&mut bytes, run.chunks.into());
        }
        push_number(&mut bytes, self.children.len() as u64);
        for child in &self.children {
            let Child { id, slot, fullest } = child.unwrap_or(Child { id: Uuid::nil(), slot: 0, fullest: 0 });
            bytes.extend(id.as_bytes());
            push_number(&mut bytes, slot.into());
            push_number(&mut bytes, fullest.into());
        }
        bytes
    }

    /// Decodes a node, or returns `None` if it is malformed.
    pub(crate) fn decode(bytes: &[u8], fanout: u32) -> Option<Self> {
        let number = |bytes, max| take_number(bytes).filter(|(number, _)| *number <= max);
        let (count, mut rest) = number(bytes, MAX_RUNS)?;
        let mut node = Self::default();
        for _ in 0..count {
            let (id, tail) = rest.split_first_chunk()?;
            let (slot, tail) = number(tail, MAX_RUNS)?;
            let (chunks, tail) = number(tail, MAX_CHUNKS)?;
            if chunks == 0 {
                return None;
            }
            node.runs.push(Run { id: Uuid::from_bytes(*id), slot: slot as u32, chunks: chunks as u32 });
            rest = tail;
        }
        let (count, mut rest) = number(rest, fanout.into())?;
        if count != 0 && count != u64::from(fanout) {
            return None;
        }
        for _ in 0..count {
            let (id, tail) = rest.split_first_chunk()?;
            let (slot, tail) = number(tail, MAX_RUNS)?;
            let (fullest, tail) = number(tail, MAX_RUNS)?;
            let id = Uuid::from_bytes(*id);
            let child = Child { id, slot: slot as u32, fullest: fullest as u32 };
            node.children.push((!id.is_nil()).then_some(child));
            rest = tail;
        }
        rest.is_empty().then_some(node)
    }
}

/// The root of a summary, and what it summarizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// The position of the last event that the summary includes.
    pub(crate) through: Position,
    /// The id of the page that ends at that position.
    pub(crate) page: Uuid,
    /// The id of this version of the root.
    pub(crate) id: Uuid,
    /// The number of the last job.
    pub(crate) job: u64,
    /// Whether that job has not been completed.
    pub(crate) open: bool,
    pub(crate) node: Node,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_divide_the_hashes_in_order() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut hashes: Vec<StreamHash> = (0..2_000)
            .map(|_| {
                let mut hash = [0; 12];
                random.fill(&mut hash);
                StreamHash(hash)
            })
            .collect();
        hashes.extend([StreamHash([0; 12]), StreamHash([255; 12])]);
        hashes.sort_unstable();
        let places = |depth: u8| {
            let place =
                move |hash: &StreamHash| (0..depth).fold(Place::of(*hash), |place, _| place.in_child(24));
            hashes.iter().map(place).map(|place| (place.node, place.chunk(7)))
        };
        for depth in 0..4 {
            assert!(places(depth).is_sorted(), "depth {depth}");
            let (last, chunk) = places(depth).next_back().expect("some");
            assert_eq!((last.index, chunk), (24_u64.pow(depth.into()) - 1, 6));
        }
        let node = Place::of(hashes[77]).in_child(24).in_child(24).node;
        let (parent, child) = node.parent(24).expect("not the root");
        assert_eq!(parent.child(24, child as u64), node);
        assert_eq!(NodeId::ROOT.parent(24), None);
    }

    #[test]
    fn decoding_a_node_restores_it_and_rejects_anything_else() {
        let run = |slot| Run { id: Uuid::from_u128(slot as u128 + 1), slot, chunks: 1 + slot * 200 };
        let child = |index| Child { id: Uuid::from_u128(index), slot: 1, fullest: 24 };
        let children = (0..24).map(|index| (index > 0).then(|| child(index))).collect();
        let inner = Node { runs: (0..24).map(run).collect(), children };
        assert_eq!(inner.fullest(), 24);
        for node in [inner, Node::default(), Node { runs: vec![run(3)], children: Vec::new() }] {
            let bytes = node.encode();
            assert_eq!(Node::decode(&bytes, 24), Some(node));
            for length in 0..bytes.len() {
                assert_eq!(Node::decode(&bytes[..length], 24), None, "{length} bytes");
            }
            assert_eq!(Node::decode(&[&bytes[..], &[0]].concat(), 24), None);
        }
        assert_eq!(Node::decode(&[0, 5], 24), None, "another number of children");
        assert_eq!(Node::decode(&[255; 9], 24), None, "too many runs");
        let empty = [&[1][..], &[1; 16], &[0, 0, 0]].concat();
        assert_eq!(Node::decode(&empty, 24), None, "a run without chunks");
    }
}
