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
use crate::yielding::yield_now;

/// The number of commits that are decoded before other tasks get their turn.
const COMMITS_PER_TURN: usize = 100;

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

    /// Starts an archive of `stream`.
    pub(super) fn writer<'a>(&'a self, stream: &'a StreamId) -> ArchiveWriter<'a> {
        let gzip = GzEncoder::new(Vec::new(), Compression::default());
        ArchiveWriter { prefix: &self.prefix, stream, gzip }
    }

    /// Stores an archive.
    pub(super) async fn put(&self, name: &PayloadName, content: &Bytes) -> Result<(), StoreError> {
        Ok(self.payloads.put(name, content.clone()).await?)
    }

    /// Reads the archive `name` of `stream`, and verifies its digest.
    pub(super) async fn get<'a>(
        &self,
        name: &'a PayloadName,
        stream: &'a StreamId,
    ) -> Result<Archive<'a>, StoreError> {
        let found = self.find(name, stream).await?;
        found.ok_or_else(|| PayloadError::missing(name).into())
    }

    /// Reads the archive `name` of `stream`, if it exists, and verifies its digest.
    pub(super) async fn find<'a>(
        &self,
        name: &'a PayloadName,
        stream: &'a StreamId,
    ) -> Result<Option<Archive<'a>>, StoreError> {
        match self.payloads.get(name).await {
            Ok(content) => Ok(Some(Archive { name, stream, content: name.verified(content)? })),
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

/// An archive that is being written.
pub(super) struct ArchiveWriter<'a> {
    prefix: &'a PayloadPrefix,
    stream: &'a StreamId,
    gzip: GzEncoder<Vec<u8>>,
}

impl ArchiveWriter<'_> {
    /// Adds a commit, after checking that its line has the same content.
    pub(super) fn add(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let mut line = serde_json::to_string(&CommitLine::of(self.stream, commit))
            .map_err(|error| StoreError::Backend(error.into()))?;
        let read = serde_json::from_str(&line).ok().and_then(|line: CommitLine| line.into_commit().ok());
        if read.is_none_or(|(stream, read)| stream != *self.stream || read != *commit) {
            let reason = format!("its commit at version {} cannot be archived", commit.first);
            return Err(StoreError::corrupt(self.stream, reason));
        }
        line.push('\n');
        self.gzip.write_all(line.as_bytes()).map_err(|error| StoreError::Backend(error.into()))
    }

    /// Returns the content, and its name. The name depends on the content only, so that an interrupted attempt is
    /// continued under the same name.
    pub(super) fn finish(self) -> Result<(PayloadName, Bytes), StoreError> {
        let content = self.gzip.finish().map_err(|error| StoreError::Backend(error.into()))?;
        let content = Bytes::from(content);
        Ok((PayloadName::of(self.prefix.clone(), &content), content))
    }
}

/// The content of an archive, which has the digest in its name.
pub(super) struct Archive<'a> {
    name: &'a PayloadName,
    stream: &'a StreamId,
    content: Bytes,
}

impl Archive<'_> {
    /// Decodes the commits, which start at the first version of the stream and have no gaps.
    pub(super) fn commits(&self) -> impl Iterator<Item = Result<Commit, PayloadError>> + Send {
        let mut contiguity = Contiguity::after(self.stream.clone(), Version::NONE);
        let lines = BufReader::new(MultiGzDecoder::new(&*self.content)).lines();
        lines.zip(1..).map(move |(line, number)| {
            let corrupt = |reason: String| PayloadError::corrupt(self.name, reason);
            let line = line.map_err(|error| corrupt(format!("it cannot be decompressed: {error}")))?;
            // The error of the parser may quote the line.
            let line: CommitLine =
                serde_json::from_str(&line).map_err(|_| corrupt(format!("line {number} is not a commit")))?;
            let read = line.into_commit().and_then(|(of, commit)| {
                contiguity.check(&commit)?;
                Ok((of, commit))
            });
            let (of, commit) = read.map_err(|error| corrupt(format!("line {number}: {error}")))?;
            if of != *self.stream {
                return Err(corrupt(format!("it is an archive of the stream `{of}`")));
            }
            Ok(commit)
        })
    }

    /// Decodes all commits, and passes each to `take`. Yields to the executor from time to time, because there may be
    /// hundreds of thousands.
    async fn each_commit(&self, mut take: impl FnMut(Commit)) -> Result<(), PayloadError> {
        for (commit, number) in self.commits().zip(1..) {
            take(commit?);
            if number % COMMITS_PER_TURN == 0 {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Decodes all commits.
    pub(super) async fn all_commits(&self) -> Result<Vec<Commit>, PayloadError> {
        let mut all = Vec::new();
        self.each_commit(|commit| all.push(commit)).await?;
        Ok(all)
    }

    /// Fails unless the archive ends at the version `last`.
    pub(super) async fn check_end(&self, last: Version) -> Result<(), PayloadError> {
        let mut end = Version::NONE;
        self.each_commit(|commit| end = commit.last()).await?;
        match end == last {
            true => Ok(()),
            false => {
                Err(PayloadError::corrupt(self.name, format!("it ends at version {end}, not at {last}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use futures_executor::block_on;
    use futures_util::FutureExt;
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

    fn packed(archives: &Archives, stream: &StreamId, commits: &[Commit]) -> (PayloadName, Bytes) {
        let mut writer = archives.writer(stream);
        commits.iter().for_each(|commit| writer.add(commit).expect("packs"));
        writer.finish().expect("packs")
    }

    /// Returns the error of reading an archive with this content.
    fn rejected(content: &[u8]) -> String {
        let stream = StreamId::new("note", "1").expect("valid");
        let name = PayloadName::of(PayloadPrefix::new("archives").expect("valid"), content);
        let archive = Archive { name: &name, stream: &stream, content: Bytes::copy_from_slice(content) };
        block_on(archive.all_commits()).expect_err("is no archive").to_string()
    }

    #[test]
    fn an_archive_contains_the_commits() {
        let (payloads, stream) = (MemoryPayloads::new(), StreamId::new("note", "1").expect("valid"));
        let archives = archives(&payloads);
        let (name, content) = packed(&archives, &stream, &commits());
        assert_eq!(packed(&archives, &stream, &commits()).0, name);
        block_on(archives.put(&name, &content)).expect("stores");
        let archive = block_on(archives.get(&name, &stream)).expect("reads");
        assert_eq!(block_on(archive.all_commits()).expect("decodes"), commits());
        assert_eq!(block_on(archive.check_end(Version::new(8))).ok(), Some(()));
        let error = block_on(archive.check_end(Version::new(9))).expect_err("is incomplete");
        assert!(error.to_string().contains("ends at version 8, not at 9"), "{error}");
    }

    #[test]
    fn a_commit_that_could_not_be_read_back_is_not_archived() {
        let (archives, stream) =
            (archives(&MemoryPayloads::new()), StreamId::new("note", "1").expect("valid"));
        let without_events =
            Commit::new(CommitId::new(Uuid::nil()), Version::FIRST, DateTime::UNIX_EPOCH, Vec::new());
        let error = archives.writer(&stream).add(&without_events).expect_err("is no commit");
        assert!(error.to_string().contains("its commit at version 1 cannot be archived"), "{error}");
    }

    #[test]
    fn other_tasks_run_while_many_commits_are_decoded() {
        let (archives, stream) =
            (archives(&MemoryPayloads::new()), StreamId::new("note", "1").expect("valid"));
        let commit = |version: u64| {
            let id = CommitId::new(Uuid::from_u128(version.into()));
            let events = vec![EventData::new("Noted", 1, "{}")];
            Commit::new(id, Version::new(version), DateTime::UNIX_EPOCH, events)
        };
        for (count, yields) in [(99, false), (250, true)] {
            let commits: Vec<_> = (1..=count).map(commit).collect();
            let (name, content) = packed(&archives, &stream, &commits);
            let archive = Archive { name: &name, stream: &stream, content };
            assert_eq!(archive.all_commits().now_or_never().is_none(), yields);
            assert_eq!(archive.check_end(Version::new(count)).now_or_never().is_none(), yields);
            assert_eq!(block_on(archive.all_commits()).expect("decodes"), commits);
        }
    }

    #[test]
    fn other_objects_are_rejected() {
        let (stream, other) =
            (StreamId::new("note", "1").expect("valid"), StreamId::new("note", "2").expect("valid"));
        let archives = archives(&MemoryPayloads::new());
        let (_, content) = packed(&archives, &stream, &commits());
        assert!(rejected(&content[..content.len() - 9]).contains("cannot be decompressed"));
        assert!(rejected(b"{}").contains("cannot be decompressed"));
        let (_, content) = packed(&archives, &other, &commits());
        assert!(rejected(&content).contains("an archive of the stream `note#2`"));
        let (_, content) = packed(&archives, &stream, &commits()[1..]);
        assert!(rejected(&content).contains("line 1: "), "{}", rejected(&content));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(b"secret\n").expect("writes");
        let error = rejected(&gzip.finish().expect("compresses"));
        assert!(error.contains("line 1 is not a commit") && !error.contains("secret"), "{error}");
    }
}
