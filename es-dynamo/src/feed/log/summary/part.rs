//! The stored parts of a summary: nodes, and the chunks and filters of runs.

use es_core::Version;
use es_core::feed::Slice;
use uuid::Uuid;

use super::Shape;
use super::node::{NodeId, Place};
use crate::feed::log::marks::{HashKey, Mark, StreamHash};
use crate::feed::log::reference::CommitTag;

/// The first byte of a part, which is the version of its format.
const FORMAT: u8 = 3;

const TAG_BYTES: usize = size_of::<CommitTag>();

/// The number of bits of a filter for each watermark, so that about one of 120 other streams passes it.
const FILTER_BITS: usize = 10;

/// The number of bits that are set for each watermark.
const FILTER_PROBES: u64 = 7;

/// The kind of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Node,
    Marks,
    Filter,
}

/// The place of a part in the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartKey {
    pub(crate) node: NodeId,
    pub(crate) kind: Kind,
    pub(crate) slot: u32,
    /// The number of the chunk or the filter. 0 for a node.
    pub(crate) index: u32,
}

/// The summary of one log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) slice: Slice,
    pub(crate) key: HashKey,
    pub(crate) shape: Shape,
}

impl Scope {
    /// Returns the stored form of a part, which only [`open`](Self::open) with the same key and id accepts.
    pub(crate) fn seal(&self, key: PartKey, id: Uuid, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + content.len() + 4);
        bytes.push(FORMAT);
        bytes.extend(content);
        let checksum = self.checksum(key, id, &bytes);
        bytes.extend(checksum.to_be_bytes());
        bytes
    }

    /// Returns the content of a part, or `None` if it is damaged or another part.
    pub(crate) fn open<'a>(&self, key: PartKey, id: Uuid, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (content, found) = bytes.split_last_chunk::<4>()?;
        if u32::from_be_bytes(*found) != self.checksum(key, id, content) {
            return None;
        }
        let (&FORMAT, content) = content.split_first()? else { return None };
        Some(content)
    }

    /// Returns a CRC-32 of a part's content and identity.
    fn checksum(&self, key: PartKey, id: Uuid, content: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let kind = match key.kind {
            Kind::Node => 0,
            Kind::Marks => 1,
            Kind::Filter => 2,
        };
        let NodeId { depth, index } = key.node;
        let slice = u64::from(self.slice.get());
        for number in [slice, depth.into(), index, kind, key.index.into()] {
            hasher.update(&number.to_be_bytes());
        }
        hasher.update(id.as_bytes());
        hasher.update(&self.key);
        hasher.update(content);
        hasher.finalize()
    }

    /// Returns the number of chunks of a run of `count` watermarks.
    pub(crate) fn chunks(&self, count: usize) -> u32 {
        u32::try_from(count.div_ceil(self.shape.chunk)).unwrap_or(u32::MAX).max(1)
    }

    /// Returns the number of filters of a run.
    pub(crate) fn filters(&self, chunks: u32) -> u32 {
        chunks.div_ceil(self.shape.chunks_per_filter)
    }

    /// Returns the chunks and filters of a run in `node`. The watermarks must be sorted.
    pub(crate) fn run(
        &self,
        node: NodeId,
        id: Uuid,
        slot: u32,
        marks: &[(StreamHash, Mark)],
    ) -> Vec<(PartKey, Vec<u8>)> {
        let chunks = self.chunks(marks.len());
        let part = |kind, index| PartKey { node, kind, slot, index };
        let chunk_of = |hash| Place::within(hash, node, self.shape.fanout).chunk(chunks);
        let mut parts = Vec::new();
        let mut rest = marks;
        for filter in 0..self.filters(chunks) {
            let first = filter * self.shape.chunks_per_filter;
            let end = chunks.min(first + self.shape.chunks_per_filter);
            let mut hashes = Vec::new();
            for index in first..end {
                let count = rest.partition_point(|(hash, _)| chunk_of(*hash) <= index);
                let (chunk, others) = rest.split_at(count);
                hashes.extend(chunk.iter().map(|(hash, _)| *hash));
                let key = part(Kind::Marks, index);
                parts.push((key, self.seal(key, id, &encode_marks(chunk))));
                rest = others;
            }
            let key = part(Kind::Filter, filter);
            parts.push((key, self.seal(key, id, &encode_filter(&hashes))));
        }
        parts
    }
}

pub(super) fn encode_marks(marks: &[(StreamHash, Mark)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(marks.len() * (StreamHash::BYTES + 2 + TAG_BYTES));
    for (stream, mark) in marks {
        bytes.extend(stream.0);
        push_number(&mut bytes, mark.version.get());
        bytes.extend(mark.tag.0.to_be_bytes());
    }
    bytes
}

/// Decodes the watermarks of a chunk, or returns `None` if they are malformed or not sorted.
pub(crate) fn decode_marks(mut rest: &[u8]) -> Option<Vec<(StreamHash, Mark)>> {
    let mut marks: Vec<(StreamHash, Mark)> = Vec::new();
    while !rest.is_empty() {
        let (hash, tail) = rest.split_first_chunk()?;
        let (version, tail) = take_number(tail)?;
        let (tag, tail) = tail.split_first_chunk::<TAG_BYTES>()?;
        let (hash, version) = (StreamHash(*hash), Version::new(version));
        let is_sorted = marks.last().is_none_or(|(last, _)| *last < hash);
        if version.is_none() || version > Version::MAX || !is_sorted {
            return None;
        }
        marks.push((hash, Mark { version, tag: CommitTag(u32::from_be_bytes(*tag)) }));
        rest = tail;
    }
    Some(marks)
}

/// Returns the bits of a Bloom filter for the hash.
fn probes(hash: StreamHash, bits: u64) -> impl Iterator<Item = u64> {
    let [.., a, b, c, d, e, f, g, h] = hash.0;
    let (start, step) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]) | 1);
    (0..FILTER_PROBES).map(move |probe| (u64::from(start) + probe * u64::from(step)) % bits)
}

fn encode_filter(hashes: &[StreamHash]) -> Vec<u8> {
    let mut filter = vec![0; filter_bytes(hashes.len())];
    hashes.iter().for_each(|hash| set_bits(&mut filter, *hash));
    filter
}

/// Returns the size in bytes of a filter for `count` streams.
pub(super) fn filter_bytes(count: usize) -> usize {
    (count * FILTER_BITS).div_ceil(8).max(1)
}

/// Adds a stream to a filter.
pub(super) fn set_bits(filter: &mut [u8], hash: StreamHash) {
    for bit in probes(hash, filter.len() as u64 * 8) {
        filter[(bit / 8) as usize] |= 1 << (bit % 8);
    }
}

/// Returns whether a filter may be of a run with the hash. If it returns `false`, it is not.
pub(crate) fn passes(filter: &[u8], hash: StreamHash) -> bool {
    let is_set = |bit: u64| filter.get((bit / 8) as usize).is_some_and(|byte| byte & 1 << (bit % 8) != 0);
    filter.is_empty() || probes(hash, filter.len() as u64 * 8).all(is_set)
}

/// Encodes a number with seven bits per byte, the lowest first. The highest bit of each byte is set if more follow.
pub(crate) fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(crate) fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = Scope { slice: Slice::new(3), key: [7; 16], shape: Shape::DEFAULT };
    const ID: Uuid = Uuid::from_u128(5);

    fn marks(count: u64) -> Vec<(StreamHash, Mark)> {
        let mut random = fastrand::Rng::with_seed(count);
        let mut marks: Vec<_> = (0..count)
            .map(|index| {
                let mut hash = [0; 12];
                random.fill(&mut hash);
                let mark = Mark { version: Version::new(1 << (index % 39)), tag: CommitTag(random.u32(..)) };
                (StreamHash(hash), mark)
            })
            .collect();
        marks.sort_unstable();
        marks
    }

    #[test]
    fn decoding_a_run_restores_it() {
        for count in [0, 1, 100, 20_000] {
            let marks = marks(count);
            let chunks = SCOPE.chunks(marks.len());
            let parts = SCOPE.run(NodeId::ROOT, ID, 4, &marks);
            assert_eq!(parts.len() as u32, chunks + SCOPE.filters(chunks));
            let (mut back, mut filters) = (Vec::new(), Vec::new());
            for (key, bytes) in &parts {
                assert!(bytes.len() < 5 * 1024, "{} bytes", bytes.len());
                let content = SCOPE.open(*key, ID, bytes).expect("sound");
                match key.kind {
                    Kind::Marks => back.extend(decode_marks(content).expect("sound")),
                    _ => filters.push(content),
                }
            }
            assert_eq!(back, marks);
            let filter_of = |hash| {
                let chunk = Place::of(hash).chunk(chunks);
                filters[(chunk / SCOPE.shape.chunks_per_filter) as usize]
            };
            assert!(marks.iter().all(|(hash, _)| passes(filter_of(*hash), *hash)), "no false negatives");
            let others = tests::marks(10_007);
            let passed = others.iter().filter(|(hash, _)| passes(filter_of(*hash), *hash)).count();
            assert!(passed < 200, "{passed} of 10,007 pass a filter of {count}");
        }
    }

    #[test]
    fn a_damaged_or_misplaced_part_is_rejected() {
        let (key, part) = SCOPE.run(NodeId::ROOT, ID, 4, &marks(100)).swap_remove(0);
        assert!(SCOPE.open(key, ID, &part).is_some());
        assert!(SCOPE.open(key, Uuid::from_u128(6), &part).is_none(), "another run");
        assert!(SCOPE.open(PartKey { index: 9, ..key }, ID, &part).is_none());
        assert!(SCOPE.open(PartKey { kind: Kind::Filter, ..key }, ID, &part).is_none());
        let child = NodeId { depth: 1, index: 0 };
        assert!(SCOPE.open(PartKey { node: child, ..key }, ID, &part).is_none());
        assert!(Scope { slice: Slice::new(4), ..SCOPE }.open(key, ID, &part).is_none());
        assert!(Scope { key: [8; 16], ..SCOPE }.open(key, ID, &part).is_none(), "another feed");
        for index in 0..part.len() {
            let mut damaged = part.clone();
            damaged[index] ^= 4;
            assert!(SCOPE.open(key, ID, &damaged).is_none(), "byte {index}");
        }
        for length in 0..10 {
            assert!(SCOPE.open(key, ID, &part[..length]).is_none());
        }
    }

    #[test]
    fn hostile_content_is_rejected_or_harmless() {
        let mut random = fastrand::Rng::with_seed(1);
        let good = encode_marks(&marks(20));
        for _ in 0..2_000 {
            let mut content = good.clone();
            content.truncate(random.usize(..=good.len()));
            for _ in 0..random.usize(1..4) {
                if let Some(byte) = random.choice(&mut content) {
                    *byte = random.u8(..);
                }
            }
            if let Some(found) = decode_marks(&content) {
                assert!(found.is_sorted_by(|(a, _), (b, _)| a < b));
            }
            passes(&content, marks(1)[0].0);
        }
        let twice = [good.clone(), good].concat();
        assert_eq!(decode_marks(&twice), None, "not sorted");
        assert!(passes(&[], marks(1)[0].0), "an empty filter excludes nothing");
    }
}
