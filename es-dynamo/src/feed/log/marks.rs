//! Watermarks: the version up to which each stream is in the log.

use std::collections::HashMap;

use es_core::{StreamId, Version};
use sha2::{Digest, Sha256};

use super::reference::CommitTag;

/// The secret of a table's feed, which prevents clients from choosing ids whose hashes collide.
pub(crate) type HashKey = [u8; 16];

/// A stream, represented by 96 bits of a hash with the feed's secret.
///
/// Two streams with the same hash would share a watermark, so that events of one could count as indexed. With a billion
/// streams in a slice, the probability is one in 10^11, and a collision cannot be constructed without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamHash(pub(crate) [u8; Self::BYTES]);

impl StreamHash {
    pub(crate) const BYTES: usize = 12;

    pub(crate) fn of(key: &HashKey, stream: &StreamId) -> Self {
        let digest = Sha256::new().chain_update(key).chain_update(stream.as_str()).finalize();
        let mut hash = [0; Self::BYTES];
        hash.copy_from_slice(&digest[..Self::BYTES]);
        Self(hash)
    }

    /// Returns the range that contains the hash, of `count` ranges of equal size.
    pub(crate) fn range(self, count: u32) -> u32 {
        let [a, b, c, d, ..] = self.0;
        ((u64::from(u32::from_be_bytes([a, b, c, d])) * u64::from(count)) >> 32) as u32
    }
}

/// The watermark of a stream: its last commit in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// The version of the commit's last event.
    pub(crate) version: Version,
    pub(crate) tag: CommitTag,
}

/// The watermarks of the streams of one slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    marks: HashMap<StreamHash, Mark>,
}

impl Watermarks {
    pub(crate) fn get(&self, stream: StreamHash) -> Mark {
        self.marks.get(&stream).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, stream: StreamHash, mark: Mark) {
        self.marks.insert(stream, mark);
    }

    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamHash, Mark)> {
        self.marks.iter().map(|(stream, mark)| (*stream, *mark))
    }
}

impl Extend<(StreamHash, Mark)> for Watermarks {
    fn extend<I: IntoIterator<Item = (StreamHash, Mark)>>(&mut self, marks: I) {
        self.marks.extend(marks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // Hashes are stored, so a change would invalidate every summary.
        let stream = StreamId::new("order", "1001").expect("valid");
        let hash = StreamHash::of(&[7; 16], &stream);
        let hex: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "03f97c711272c52b93ae19c8");
        assert_ne!(StreamHash::of(&[8; 16], &stream), hash);
    }

    #[test]
    fn ranges_cover_everything() {
        assert_eq!(StreamHash([0; 12]).range(5), 0);
        assert_eq!(StreamHash([255; 12]).range(5), 4);
        assert_eq!(StreamHash([128; 12]).range(1), 0);
        assert_eq!(StreamHash([128; 12]).range(2), 1);
    }
}
