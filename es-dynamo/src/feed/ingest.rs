//! What hands hints to the feed.

use std::time::Duration;

use async_trait::async_trait;
use es_core::StoreError;

use super::hint::Hint;
use super::writer::Indexed;
use crate::store::Table;

/// A feed to which hints can be told.
#[async_trait]
pub(crate) trait Ingest: Send + Sync {
    /// Indexes what the hints are at; see [`FeedIndex::submit`](super::FeedIndex::submit).
    async fn ingest(&self, hints: Vec<Hint>, linger: Duration) -> Result<Indexed, StoreError>;
}

#[async_trait]
impl Ingest for Table {
    async fn ingest(&self, hints: Vec<Hint>, linger: Duration) -> Result<Indexed, StoreError> {
        self.feed().await?.submit(self, hints, linger).await
    }
}
