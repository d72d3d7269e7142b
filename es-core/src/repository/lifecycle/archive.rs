//! Archives: the content of a stream as one compressed object.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::payloads::{PayloadError, PayloadName, PayloadPrefix, PayloadStore};
use crate::store::{Commit, CommitLine, Contiguity, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The place of archives: a payload store, and the prefix of the names of new archives.
///
/// An archive is one object, which contains the commits of one stream as JSON lines, compressed with gzip. The lines are
/// readable, and `es import` accepts them. Personal data in it is sealed.
///
/// Use a prefix that no other objects have, such as `events/archives`.
///
/// ```
/// use es_core::payloads::MemoryPayloads;
/// use es_core::repository::Archives;
///
/// let archives = Archives::new(MemoryPayloads::new(), "events/archives".parse()?);
/// # let _ = archives;
/// # Ok::<_, es_core::payloads::InvalidPayloadName>(())
/// ```
#[derive(Clone, Debug)]
pub struct Archives {
    payloads: Arc<dyn PayloadStore>,
    prefix: PayloadPrefix,
}

impl Archives {
    /// Returns the place in `payloads` where new archives get names that start with `prefix`.
    #[must_use]
    pub fn new(payloads: impl PayloadStore, prefix: PayloadPrefix) -> Self {
        Self { payloads: Arc::new(payloads), prefix }
    }

    /// Returns the archive of `commits`, and its name.
    pub(super) fn pack(
        &self,
        stream: &StreamId,
        commits: &[Commit],
    ) -> Result<(PayloadName, Bytes), StoreError> {
        // The name depends on the content only, so that an interrupted attempt is continued under the same name.
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let failed = |error: std::io::Error| StoreError::Backend(error.into());
        for commit in commits {
            serde_json::to_writer(&mut gzip, &CommitLine::of(stream, commit))
                .map_err(|error| StoreError::Backend(error.into()))?;
            gzip.write_all(b"\n").map_err(failed)?;
        }
        let content = Bytes::from(gzip.finish().map_err(failed)?);
        Ok((PayloadName::of(self.prefix.clone(), &content), content))
    }

    /// Stores an archive.
    pub(super) async fn put(&self, name: &PayloadName, content: &Bytes) -> Result<(), StoreError> {
        Ok(self.payloads.put(name, content.clone()).await?)
    }

    /// Reads and verifies the archive `name` of `stream`.
    pub(super) async fn get(&self, name: &PayloadName, stream: &StreamId) -> Result<Vec<Commit>, StoreError> {
        let found = self.find(name, stream).await?;
        found.ok_or_else(|| PayloadError::missing(name).into())
    }

    /// Reads and verifies the archive `name` of `stream`, if it exists.
    pub(super) async fn find(
        &self,
        name: &PayloadName,
        stream: &StreamId,
    ) -> Result<Option<Vec<Commit>>, StoreError> {
        match self.payloads.get(name).await {
            Ok(content) => Ok(Some(unpack(name, &name.verified(content)?, stream)?)),
            Err(PayloadError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether an archive exists, which may be damaged.
    pub(super) async fn contains(&self, name: &PayloadName) -> Result<bool, StoreError> {
        match self.payloads.get(name).await {
            Ok(_) => Ok(true),
            Err(PayloadError::Missing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an archive, if it exists.
    pub(super) async fn delete(&self, name: &PayloadName) -> Result<(), StoreError> {
        Ok(self.payloads.delete(name).await?)
    }
}

/// Returns the commits in an archive of `stream`, which start at its first version and have no gaps.
fn unpack(name: &PayloadName, content: &[u8], stream: &StreamId) -> Result<Vec<Commit>, PayloadError> {
    let corrupt = |reason: String| PayloadError::corrupt(name, reason);
    let mut contiguity = Contiguity::after(stream.clone(), Version::NONE);
    let mut commits = Vec::new();
    for (line, number) in BufReader::new(MultiGzDecoder::new(content)).lines().zip(1..) {
        let line = line.map_err(|error| corrupt(format!("it cannot be decompressed: {error}")))?;
        // The error of the parser may quote the line.
        let line: CommitLine =
            serde_json::from_str(&line).map_err(|_| corrupt(format!("line {number} is not a commit")))?;
        let read = line.into_commit().and_then(|(of, commit)| {
            contiguity.check(&commit)?;
            Ok((of, commit))
        });
        let (of, commit) = read.map_err(|error| corrupt(format!("line {number}: {error}")))?;
        if of != *stream {
            return Err(corrupt(format!("it is an archive of the stream `{of}`")));
        }
        commits.push(commit);
    }
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use futures_executor::block_on;
    use uuid::Uuid;

    use super::*;
    use crate::event::{CommitId, EventData};
    use crate::payloads::MemoryPayloads;

    fn archives(payloads: &MemoryPayloads) -> Archives {
        Archives::new(payloads.clone(), PayloadPrefix::new("archives").expect("valid"))
    }

    fn commits() -> Vec<Commit> {
        let events = |count| vec![EventData::new("Noted", 2, "{ \"text\": \"ä\\u0000\" } "); count];
        let commit = |id: u128, first, count| {
            let id = CommitId::new(Uuid::from_u128(id));
            Commit::new(id, Version::new(first), DateTime::UNIX_EPOCH, events(count))
        };
        vec![commit(1, 1, 2), commit(2, 3, 1), commit(3, 4, 5)]
    }

    /// Returns the error of reading an archive with this content.
    fn rejected(content: &[u8]) -> String {
        let stream = StreamId::new("note", "1").expect("valid");
        let name = PayloadName::of(PayloadPrefix::new("archives").expect("valid"), content);
        unpack(&name, content, &stream).expect_err("is no archive").to_string()
    }

    #[test]
    fn an_archive_contains_the_commits() {
        let (payloads, stream) = (MemoryPayloads::new(), StreamId::new("note", "1").expect("valid"));
        let archives = archives(&payloads);
        let (name, content) = archives.pack(&stream, &commits()).expect("packs");
        assert_eq!(archives.pack(&stream, &commits()).expect("packs").0, name);
        block_on(archives.put(&name, &content)).expect("stores");
        assert_eq!(block_on(archives.get(&name, &stream)).expect("reads"), commits());
    }

    #[test]
    fn other_objects_are_rejected() {
        let (stream, other) =
            (StreamId::new("note", "1").expect("valid"), StreamId::new("note", "2").expect("valid"));
        let archives = archives(&MemoryPayloads::new());
        let (_, content) = archives.pack(&stream, &commits()).expect("packs");
        assert!(rejected(&content[..content.len() - 9]).contains("cannot be decompressed"));
        assert!(rejected(b"{}").contains("cannot be decompressed"));
        let (_, content) = archives.pack(&other, &commits()).expect("packs");
        assert!(rejected(&content).contains("an archive of the stream `note#2`"));
        let (_, content) = archives.pack(&stream, &commits()[1..]).expect("packs");
        assert!(rejected(&content).contains("line 1: "), "{}", rejected(&content));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"secret\n").expect("writes");
        let error = rejected(&gzip.finish().expect("compresses"));
        assert!(error.contains("line 1 is not a commit") && !error.contains("secret"), "{error}");
    }
}
