//! The lines of an export: a commit each. A copy also has lines with claims and idempotency keys.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};

use es_core::chrono::{DateTime, Utc};
use es_core::store::{Claim, Commit, CommitLine, EventRange, IdempotencyKey, IdempotencyRecord, StoredKey};
use es_core::stream_id::InvalidStreamId;
use es_core::uuid::Uuid;
use es_core::{BoxError, StreamId, Version};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// The content of a line.
#[derive(Debug)]
pub(super) enum Entry {
    Commit(StreamId, Commit),
    Key(StoredKey),
}

/// A claim or an idempotency key as a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyLine {
    Claim {
        name: String,
        value: String,
        stream: String,
    },
    Key {
        stream: Option<String>,
        key: String,
        id: Uuid,
        expires: DateTime<Utc>,
        fingerprint: Option<String>,
        ranges: Vec<RangePart>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RangePart {
    stream: String,
    first: u64,
    last: u64,
}

impl KeyLine {
    /// Returns `None` for a kind of key that this version does not know.
    pub(super) fn of(key: &StoredKey) -> Option<Self> {
        match key {
            StoredKey::Claim { claim, stream } => Some(Self::Claim {
                name: claim.name().to_owned(),
                value: claim.value().to_owned(),
                stream: stream.to_string(),
            }),
            StoredKey::Idempotency { key, record } => Some(Self::Key {
                stream: key.stream().map(StreamId::to_string),
                key: key.key().to_owned(),
                id: record.id,
                expires: record.expires,
                fingerprint: record.fingerprint.clone(),
                ranges: record.ranges.iter().map(RangePart::of).collect(),
            }),
            _ => None,
        }
    }

    fn entry(self) -> std::result::Result<Entry, BoxError> {
        Ok(Entry::Key(match self {
            Self::Claim { name, value, stream } => {
                StoredKey::Claim { claim: Claim::new(name, value)?, stream: stream.parse()? }
            }
            Self::Key { stream, key, id, expires, fingerprint, ranges } => {
                let stream = stream.map(|stream| stream.parse()).transpose()?;
                let ranges =
                    ranges.into_iter().map(RangePart::range).collect::<std::result::Result<_, _>>()?;
                let record = IdempotencyRecord::new(id, ranges, expires).with_fingerprint(fingerprint);
                StoredKey::Idempotency { key: IdempotencyKey::new(stream, key)?, record }
            }
        }))
    }
}

impl RangePart {
    fn of(range: &EventRange) -> Self {
        Self { stream: range.stream.to_string(), first: range.first.get(), last: range.last.get() }
    }

    fn range(self) -> std::result::Result<EventRange, InvalidStreamId> {
        Ok(EventRange::new(self.stream.parse()?, Version::new(self.first), Version::new(self.last)))
    }
}

/// An export, which is read several times: it is checked before anything is written.
#[derive(Debug)]
pub(super) struct Input {
    path: PathBuf,
    file: File,
}

impl Input {
    /// Opens a file, or standard input for `-`. What can be read only once, such as a pipe, is copied to a temporary
    /// file.
    pub(super) async fn open(path: PathBuf) -> Result<Self> {
        // A pipe may block.
        tokio::task::spawn_blocking(|| {
            let opened = open(&path).map_err(|error| Failure::at(&path, &error));
            opened.map(|file| Self { path, file })
        })
        .await?
    }

    /// Returns the content with the numbers of the lines, from the beginning. Only one of these iterators may be used
    /// at a time.
    pub(super) fn lines(&self) -> Result<impl Iterator<Item = Result<(usize, Entry)>> + use<>> {
        let path = self.path.clone();
        let rewound = self.file.try_clone().and_then(|mut file| file.rewind().map(|()| file));
        let file = rewound.map_err(|error| Failure::at(&path, &error))?;
        Ok(BufReader::new(file).lines().enumerate().map(move |(index, line)| {
            let number = index + 1;
            Ok((number, parse(&line.map_err(|error| Failure::at(&path, &error))?, number)?))
        }))
    }
}

fn open(path: &Path) -> io::Result<File> {
    if path == Path::new("-") {
        return copied(io::stdin().lock());
    }
    let file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { copied(file) }
}

/// Copies a stream to a file without a name.
fn copied(mut stream: impl io::Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut stream, &mut file)?;
    Ok(file)
}

fn parse(line: &str, number: usize) -> Result<Entry> {
    if line.starts_with("{\"claim\":") || line.starts_with("{\"key\":") {
        let key: KeyLine = serde_json::from_str(line).map_err(|error| not_exported(number, &error))?;
        return key.entry().map_err(|error| at(number, &*error));
    }
    let line: CommitLine = serde_json::from_str(line).map_err(|error| not_exported(number, &error))?;
    let (stream, commit) = line.into_commit().map_err(|error| at(number, &error))?;
    for (version, _, event) in commit.numbered() {
        serde_json::from_str::<IgnoredAny>(event.payload()).map_err(|error| {
            Failure::of(format!(
                "line {number}: the payload of the event `{}` at version {version} of `{stream}` is not JSON: {error}",
                event.name()
            ))
        })?;
    }
    Ok(Entry::Commit(stream, commit))
}

fn not_exported(line: usize, error: &serde_json::Error) -> Failure {
    Failure::of(format!("line {line}: {error}; use a file that `stream export` or `copy` has written"))
}

/// Returns an error with the number of its line.
pub(super) fn at(line: usize, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::of(format!("line {line}: {}", es_core::error_text(error)))
}
