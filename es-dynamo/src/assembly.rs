//! Putting commits together again whose events did not fit into one item.

use es_core::store::{Commit, Contiguity};
use es_core::{StoreError, StreamId, Version};

use crate::item::{CommitHead, Part};
use crate::transact::MOST_ITEMS;

/// Takes the parts of commits in order, and gives back the commits that are whole.
///
/// The parts of a commit are written in one transaction, but a Query that runs beside it may see any of
/// them and not yet the others
/// ([isolation](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-isolation)):
/// what does not follow has to be read again.
pub(crate) struct Assembly {
    stream: StreamId,
    /// The last version of the commits that were whole.
    last: Version,
    started: Option<Started>,
}

struct Started {
    commit: Commit,
    whole: CommitHead,
    parts: usize,
}

/// What became of a part.
pub(crate) enum Taken {
    /// It completes a commit.
    Whole(Commit),
    /// The rest of its commit is to come.
    Started,
    /// Something before it is missing: this error, if it does not turn up.
    Ahead(StoreError),
}

impl Assembly {
    /// Takes what comes after `version`.
    pub(crate) fn after(stream: StreamId, version: Version) -> Self {
        Self { stream, last: version, started: None }
    }

    /// Takes the next part.
    pub(crate) fn take(&mut self, part: Part) -> Result<Taken, StoreError> {
        let Part { commit, whole } = part;
        if commit.first < self.next() {
            return Err(self.corrupt(format!("the version {} is stored twice", commit.first)));
        }
        if let Some(error) = self.gap_before(&commit, whole.first) {
            return Ok(Taken::Ahead(error));
        }
        let started = match self.started.take() {
            None => Started { commit, whole, parts: 1 },
            Some(mut started) if started.whole == whole => {
                started.commit.events.extend(commit.events);
                started.parts += 1;
                started
            }
            Some(_) => {
                let reason = format!("the commit at version {} is another one than before", commit.first);
                return Err(self.corrupt(reason));
            }
        };
        if started.parts > MOST_ITEMS {
            return Err(self.corrupt(format!("the commit at version {} has too many parts", whole.first)));
        }
        if started.commit.last() < whole.last {
            self.started = Some(started);
            return Ok(Taken::Started);
        }
        self.last = started.commit.last();
        Ok(Taken::Whole(started.commit))
    }

    fn corrupt(&self, reason: String) -> StoreError {
        StoreError::corrupt(&self.stream, reason)
    }

    fn gap_before(&self, commit: &Commit, whole_first: Version) -> Option<StoreError> {
        if self.started.is_none() && commit.first == self.last.next() && commit.first > whole_first {
            let reason =
                format!("the commit at version {whole_first} starts before the events that follow it");
            return Some(self.corrupt(reason));
        }
        if commit.first == self.next() {
            return None;
        }
        Contiguity::after(self.stream.clone(), self.next().previous()).check(commit).err()
    }

    /// The version of the event that comes next.
    pub(crate) fn next(&self) -> Version {
        self.started.as_ref().map_or(self.last, |started| started.commit.last()).next()
    }

    /// The last version of a commit of which a part is still to be read.
    pub(crate) fn awaited(&self) -> Option<Version> {
        self.started.as_ref().map(|started| started.whole.last)
    }

    /// The error for a commit whose rest does not turn up.
    pub(crate) fn incomplete(&self) -> StoreError {
        let reason = format!("the rest of a commit is missing, from version {} on", self.next());
        self.corrupt(reason)
    }
}
