//! The state of all indexers of a table, as they have stored it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use es_core::StoreError;
use uuid::Uuid;

use super::Indexer;
use super::plan::read_ledger;
use crate::DynamoStore;

/// A shard of the table's stream, as the indexer that reads it has stored it. An indexer writes this three times per
/// [lease duration](super::IndexerBuilder::lease).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexerShard {
    /// The id of the shard.
    pub id: String,
    /// The id of the indexer that holds the lease, or `None` if no indexer reads the shard. The id changes when an
    /// indexer restarts.
    pub owner: Option<Uuid>,
    /// Whether the shard is closed and was read to its end.
    pub is_finished: bool,
    /// Whether the version of the indexer follows slices that are [split](es_core::feed::Feed::split). Another one stops
    /// at the end of a slice that was split, and loses nothing.
    pub follows_splits: bool,
    /// The time of the last heartbeat, by the clock of the indexer.
    pub heartbeat: DateTime<Utc>,
    /// The [lag](super::IndexerProgress::lag) of the shard at the last heartbeat, or `None` before the first response.
    pub lag: Option<Duration>,
}

impl Indexer {
    /// Returns the shards of the table's stream that indexers have read, in any process, ordered by id. Sends one
    /// request per 1 MB of stored state, usually one.
    ///
    /// An indexer of the embedded engine has no shards.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the request fails.
    pub async fn shards(store: &DynamoStore) -> Result<Vec<IndexerShard>, StoreError> {
        let ledger = read_ledger(store).await?;
        let shard = |(id, (state, _)): (String, (super::plan::ShardState, _))| IndexerShard {
            id,
            owner: state.owner,
            is_finished: state.done,
            follows_splits: state.splits,
            heartbeat: DateTime::from_timestamp_millis(state.at).unwrap_or_default(),
            lag: state.lag.map(Duration::from_millis),
        };
        let mut shards: Vec<_> = ledger.shards.into_iter().map(shard).collect();
        shards.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(shards)
    }
}
