//! The check that a stream was read whole.

use crate::store::{Commit, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// Follows a stream while it is read, and finds a version that is missing.
///
/// Every store runs what it reads through this check, so that a lost or skipped item stops a load instead
/// of changing its result.
#[derive(Clone, Debug)]
pub struct Contiguity {
    stream: StreamId,
    last: Version,
}

impl Contiguity {
    /// Starts after `version`, [`Version::NONE`] for the whole stream.
    #[must_use]
    pub fn after(stream: StreamId, version: Version) -> Self {
        Self { stream, last: version }
    }

    /// The version up to which everything was seen.
    #[must_use]
    pub fn last(&self) -> Version {
        self.last
    }

    /// Takes the next commit.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] when it has no events, or does not continue where the last one ended.
    pub fn check(&mut self, commit: &Commit) -> Result<(), StoreError> {
        if commit.events.is_empty() {
            return Err(StoreError::corrupt(
                &self.stream,
                format!("the commit at version {} has no events", commit.first),
            ));
        }
        if commit.first != self.last.next() {
            return Err(StoreError::corrupt(
                &self.stream,
                format!(
                    "after version {} comes a commit with the versions {} to {}, so events are missing or stored twice",
                    self.last,
                    commit.first,
                    commit.last()
                ),
            ));
        }
        self.last = commit.last();
        Ok(())
    }
}
