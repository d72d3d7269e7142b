//! Putting commits together again whose events did not fit into one item.

use es_core::store::Commit;
use es_core::{StoreError, StreamId, Version};

use crate::item::Part;

/// Takes the parts of commits in order, and gives back the commits that are whole.
///
/// The parts of a commit are written in one transaction, but a Query that runs beside it may see some of
/// them and not yet the others
/// ([isolation](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-isolation)):
/// what is left over at the end of a read has to be read again.
pub(crate) struct Assembly {
    stream: StreamId,
    started: Option<Started>,
}

struct Started {
    commit: Commit,
    last: Version,
}

impl Assembly {
    pub(crate) fn new(stream: StreamId) -> Self {
        Self { stream, started: None }
    }

    /// Takes the next part; gives the commit back when it is whole.
    pub(crate) fn take(&mut self, part: Part) -> Result<Option<Commit>, StoreError> {
        let Part { commit, whole } = part;
        let started = match self.started.take() {
            None if commit.first == whole.first => Started { commit, last: whole.last },
            Some(mut started) if started.commit.id == commit.id && self.follows(&started, &commit) => {
                started.commit.events.extend(commit.events);
                started
            }
            _ => {
                return Err(StoreError::corrupt(
                    &self.stream,
                    format!("a part of the commit that starts at version {} is missing", whole.first),
                ));
            }
        };
        if started.commit.last() < started.last {
            self.started = Some(started);
            return Ok(None);
        }
        Ok(Some(started.commit))
    }

    fn follows(&self, started: &Started, commit: &Commit) -> bool {
        started.commit.last().next() == commit.first
    }

    /// What is still to be read of a commit that was started: from which version, and up to which.
    pub(crate) fn missing(&self) -> Option<(Version, Version)> {
        self.started.as_ref().map(|started| (started.commit.last().next(), started.last))
    }

    /// The error for a commit whose parts do not turn up.
    pub(crate) fn incomplete(&self, from: Version) -> StoreError {
        StoreError::corrupt(&self.stream, format!("the rest of a commit is missing, from version {from} on"))
    }
}
