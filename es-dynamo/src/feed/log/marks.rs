//! Watermarks: the version up to which each stream is in the log.

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
}

/// The watermark of a stream: its last commit in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// The version of the commit's last event.
    pub(crate) version: Version,
    pub(crate) tag: CommitTag,
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
}
