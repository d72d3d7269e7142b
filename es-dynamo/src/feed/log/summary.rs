//! Summaries of the watermarks, so that a new writer does not have to read the whole log.
//!
//! A summary is a cache. If it is missing, damaged, or of another log, more of the log is read.

use es_core::Version;
use es_core::feed::{Position, Slice};
use uuid::Uuid;

use super::marks::{HashKey, Mark, StreamHash, Watermarks};
use super::reference::CommitTag;

/// The approximate size of a chunk in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// The approximate size of a stream's entry in bytes.
const ENTRY_BYTES: usize = StreamHash::BYTES + 2 + TAG_BYTES;

const TAG_BYTES: usize = size_of::<CommitTag>();

/// The first byte of a chunk, which is the version of its format.
const FORMAT: u8 = 2;

/// The description of a summary's chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The position of the last event that the summary includes.
    pub(crate) through: Position,
    /// The id of the page that ends at that position.
    pub(crate) page: Uuid,
    /// The number of chunks, each of which contains a range of hashes.
    pub(crate) chunks: u32,
}

impl Manifest {
    /// The maximum number of chunks, which are numbered with six digits.
    pub(crate) const MAX_CHUNKS: u32 = 1_000_000;

    /// Returns the manifest of a summary of `marks`.
    pub(crate) fn of(through: Position, page: Uuid, marks: &Watermarks) -> Self {
        let chunks = (estimated_bytes(marks) as usize).div_ceil(CHUNK_BYTES).max(1);
        Self {
            through,
            page,
            chunks: u32::try_from(chunks).unwrap_or(Self::MAX_CHUNKS).min(Self::MAX_CHUNKS),
        }
    }
}

/// Returns the approximate size of a summary in bytes.
pub(crate) fn estimated_bytes(marks: &Watermarks) -> u64 {
    (marks.len() * ENTRY_BYTES) as u64
}

/// Returns the chunks of a summary, in order.
pub(crate) fn encode(slice: Slice, key: &HashKey, manifest: Manifest, marks: &Watermarks) -> Vec<Vec<u8>> {
    let mut entries: Vec<_> = marks.iter().collect();
    entries.sort_unstable();
    let mut entries = entries.into_iter().peekable();
    (0..manifest.chunks)
        .map(|index| {
            let mut bytes = vec![FORMAT];
            while let Some((stream, mark)) =
                entries.next_if(|(stream, _)| stream.range(manifest.chunks) <= index)
            {
                bytes.extend(stream.0);
                push_number(&mut bytes, mark.version.get());
                bytes.extend(mark.tag.0.to_be_bytes());
            }
            let checksum = checksum(slice, key, manifest, index, &bytes);
            bytes.extend(checksum.to_be_bytes());
            bytes
        })
        .collect()
}

/// Decodes a chunk. Returns `None` if it is damaged or of another summary.
pub(crate) fn decode(
    slice: Slice,
    key: &HashKey,
    manifest: Manifest,
    index: u32,
    bytes: &[u8],
) -> Option<Vec<(StreamHash, Mark)>> {
    let (content, found) = bytes.split_last_chunk::<4>()?;
    if u32::from_be_bytes(*found) != checksum(slice, key, manifest, index, content) {
        return None;
    }
    let (&FORMAT, mut rest) = content.split_first()? else { return None };
    let mut entries = Vec::with_capacity(rest.len() / ENTRY_BYTES + 1);
    while !rest.is_empty() {
        let (hash, tail) = rest.split_first_chunk()?;
        let (version, tail) = take_number(tail)?;
        let (tag, tail) = tail.split_first_chunk::<TAG_BYTES>()?;
        let (version, tag) = (Version::new(version), CommitTag(u32::from_be_bytes(*tag)));
        if version.is_none() || version > Version::MAX {
            return None;
        }
        entries.push((StreamHash(*hash), Mark { version, tag }));
        rest = tail;
    }
    Some(entries)
}

/// Returns a CRC-32 of a chunk's content and identity.
fn checksum(slice: Slice, key: &HashKey, manifest: Manifest, index: u32, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [u64::from(slice.get()), manifest.through.get(), manifest.chunks.into(), index.into()] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.update(manifest.page.as_bytes());
    hasher.update(key);
    hasher.update(content);
    hasher.finalize()
}

/// Encodes a number with seven bits per byte, the lowest first. The highest bit of each byte is set if more follow.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
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

    const SLICE: Slice = Slice::new(3);
    const KEY: HashKey = [7; 16];
    const PAGE: Uuid = Uuid::from_u128(5);

    fn marks(count: u64) -> Watermarks {
        let mut random = fastrand::Rng::with_seed(count);
        let mut marks = Watermarks::default();
        for index in 0..count {
            let mut hash = [0; 12];
            random.fill(&mut hash);
            let mark = Mark { version: Version::new(1 << (index % 39)), tag: CommitTag(random.u32(..)) };
            marks.set(StreamHash(hash), mark);
        }
        marks
    }

    #[test]
    fn decoding_a_summary_restores_it() {
        for count in [0, 1, 100, 20_000] {
            let marks = marks(count);
            let manifest = Manifest::of(Position::new(99), PAGE, &marks);
            let chunks = encode(SLICE, &KEY, manifest, &marks);
            assert_eq!(chunks.len(), manifest.chunks as usize);
            let mut back = Watermarks::default();
            for (index, chunk) in (0..).zip(&chunks) {
                assert!(chunk.len() < 2 * CHUNK_BYTES);
                let entries = decode(SLICE, &KEY, manifest, index, chunk).expect("sound");
                assert!(entries.iter().all(|(stream, _)| stream.range(manifest.chunks) == index));
                back.extend(entries);
            }
            assert_eq!(back, marks);
        }
    }

    #[test]
    fn a_damaged_or_misplaced_chunk_is_rejected() {
        let marks = marks(10_000);
        let manifest = Manifest::of(Position::new(99), PAGE, &marks);
        assert!(manifest.chunks > 1);
        let chunk = encode(SLICE, &KEY, manifest, &marks).swap_remove(0);
        assert!(decode(SLICE, &KEY, manifest, 0, &chunk).is_some());
        assert!(decode(Slice::new(4), &KEY, manifest, 0, &chunk).is_none());
        assert!(decode(SLICE, &KEY, manifest, 1, &chunk).is_none());
        let later = Manifest { through: Position::new(100), ..manifest };
        assert!(decode(SLICE, &KEY, later, 0, &chunk).is_none());
        let other = Manifest { page: Uuid::from_u128(6), ..manifest };
        assert!(decode(SLICE, &KEY, other, 0, &chunk).is_none(), "another log");
        assert!(decode(SLICE, &[8; 16], manifest, 0, &chunk).is_none(), "another feed");
        for index in (0..chunk.len()).step_by(997) {
            let mut damaged = chunk.clone();
            damaged[index] ^= 4;
            assert!(decode(SLICE, &KEY, manifest, 0, &damaged).is_none(), "byte {index}");
        }
        for length in 0..10 {
            assert!(decode(SLICE, &KEY, manifest, 0, &chunk[..length]).is_none());
        }
    }
}
