//! Where the indexer's hints come from: a stream of records, in shards.

use async_trait::async_trait;
use es_core::StoreError;

use crate::feed::Record;

/// A shard of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) id: String,
    /// The shard that it continues, perhaps one that is gone.
    pub(crate) parent: Option<String>,
}

/// Some records of a shard.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) records: Vec<Record>,
    /// When the last one was written, in milliseconds since 1970.
    pub(crate) written: Option<i64>,
    /// How to go on; `None` at the end of a shard that is closed.
    pub(crate) next: Option<String>,
}

/// Why a shard could not be read.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// The iterator is too old.
    Expired,
    /// Records after the checkpoint are gone, or all of the shard is.
    Trimmed,
    Store(StoreError),
}

impl From<StoreError> for SourceError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A stream of records: the table's, or one that the tests make up.
#[async_trait]
pub(crate) trait StreamSource: Send + Sync {
    /// All shards that there are.
    async fn shards(&self) -> Result<Vec<Shard>, StoreError>;

    /// Where to read on after a record, or from the oldest one that there is.
    async fn iterator(&self, shard: &str, after: Option<&str>) -> Result<String, SourceError>;

    /// Reads on.
    async fn records(&self, iterator: &str) -> Result<Records, SourceError>;
}
