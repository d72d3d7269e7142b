//! The end of a stream: its last commit, which may be a lifecycle commit.

use es_core::store::{Head, StreamState};
use es_core::{Cost, StoreError, StreamId, Version};

use super::item::{Attributes, Format};
use crate::table::{Table, key, names};

/// The format number of a lifecycle commit.
pub(crate) const LIFECYCLE: &str = "3";

impl Table {
    /// Returns the end of a stream. The event of a lifecycle commit takes another read.
    pub(crate) async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        let (found, mut cost) = self.last_item(stream, Version::MAX).await?;
        let Some(mut attributes) = found else { return Ok(Head::new(Version::NONE, cost)) };
        let (format, time) = (attributes.format()?, attributes.time().ok());
        let commit = attributes.head()?;
        let mut head = Head::new(commit.last, Cost::ZERO);
        head.time = time;
        if format == Format::Lifecycle {
            let (item, read) = self.get(key(stream.as_str(), names::commit_key(commit.first))).await?;
            cost += read;
            let part =
                item.map(|item| Attributes::of(stream, item).and_then(Attributes::part)).transpose()?;
            let event = part.as_ref().and_then(|part| part.commit.events.last());
            head.state = event.and_then(StreamState::after).ok_or_else(|| {
                StoreError::corrupt(stream, "its last commit has another event than the format says")
            })?;
        }
        head.cost = cost;
        Ok(head)
    }
}
