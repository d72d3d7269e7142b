//! Stored commits.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::event::{CommitId, EventData, EventId};
use crate::metadata::Metadata;
use crate::version::Version;

/// The events of one command, as they stand in their stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Identifies the commit.
    pub id: CommitId,
    /// The version of the first event.
    pub first: Version,
    /// When it was decided, by the clock of whoever decided it, in whole milliseconds.
    pub time: DateTime<Utc>,
    /// What is known besides the events.
    pub metadata: Arc<Metadata>,
    /// The events, in order.
    pub events: Vec<EventData>,
}

impl Commit {
    /// The size of the events in bytes: of their names and payloads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.events.iter().map(|event| (event.name().len() + event.payload().len()) as u64).sum()
    }

    /// The version of the last event.
    #[must_use]
    pub fn last(&self) -> Version {
        self.first.plus(self.events.len() as u64).previous()
    }

    /// The events, each with its version and its id.
    pub fn numbered(&self) -> impl Iterator<Item = (Version, EventId, &EventData)> {
        self.events.iter().enumerate().map(|(index, event)| {
            let version = self.first.plus(index as u64);
            (version, EventId::new(self.id, version), event)
        })
    }
}
