//! The streams of a copy: their commits, their ends in the target, and their digests.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use es_core::event::{CommitId, EventData};
use es_core::feed::{Position, Slice};
use es_core::store::{
    Append, AppendError, Claim, ClaimChange, Commit, CommitLine, NewCommit, Read, StreamState, WriteSet,
    erased_event,
};
use es_core::{StreamId, Version};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::endpoint::{Endpoint, Page};
use super::keys::ClaimsByStream;
use crate::commands::export::ExportWriter;
use crate::failure::{Failure, Result};
use crate::output::{Output, Progress};
use crate::store::Store;

/// How many streams are written or read at the same time.
const CONCURRENCY: usize = 16;

/// The most claims that a commit takes; others are written afterwards.
const CLAIMS_PER_COMMIT: usize = 50;

/// The mark of personal data in a payload.
const SEALED: &str = "$sealed";

/// A stream up to a version.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// The version of the last event.
    pub(super) last: Version,
    /// The id of the last commit.
    pub(super) id: Option<CommitId>,
    /// The state after the last commit.
    pub(super) state: StreamState,
    /// Whether the content of commits is erased, so that only their ids and versions remain.
    pub(super) is_erased: bool,
    /// The digest of the previous digest and the last commit.
    pub(super) digest: [u8; 32],
}

impl Summary {
    /// Adds the next commit.
    pub(super) fn add(&mut self, stream: &StreamId, commit: &Commit) -> Result {
        if commit.first != self.last.next() {
            return Err(Failure::of(format!(
                "the commit at version {} of `{stream}` follows version {}: check the store",
                commit.first, self.last
            )));
        }
        let line = serde_json::to_vec(&CommitLine::of(stream, commit))?;
        self.digest = Sha256::new().chain_update(self.digest).chain_update(line).finalize().into();
        self.last = commit.last();
        self.id = Some(commit.id);
        self.state = commit.events.last().and_then(StreamState::after).unwrap_or_default();
        // A stream whose deletion is in progress has erased events before the source shows the end of the stream.
        self.is_erased |= !self.state.is_readable() || commit.events.contains(&erased_event());
        Ok(())
    }
}

/// A stream during the copy.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) source: Summary,
    /// The end of the stream in the target.
    present: Version,
    /// The first version and the id of the source's commit that ends where the target ended before the copy.
    boundary: Option<(Version, CommitId)>,
    /// The end of the stream in the source, if it holds claims: the commit at this end takes them in the target.
    claims_at: Option<Version>,
}

/// All streams of a copy.
pub(super) struct Streams {
    pub(super) all: BTreeMap<StreamId, Known>,
    events: u64,
    missing: u64,
    has_personal_data: bool,
    progress: Progress,
}

impl Streams {
    pub(super) fn new(output: Output, ends: &[(Slice, Position)]) -> Self {
        let total = ends.iter().map(|(_, end)| end.get()).sum();
        let progress = output.progress(total, "events");
        Self { all: BTreeMap::new(), events: 0, missing: 0, has_personal_data: false, progress }
    }

    pub(super) fn count(&self) -> u64 {
        self.all.len() as u64
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Returns the number of events that the target lacked.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    pub(super) fn has_personal_data(&self) -> bool {
        self.has_personal_data
    }

    /// Counts the events that the target lacks, without a change.
    pub(super) async fn scan(
        &mut self,
        source: &Endpoint,
        ends: &[(Slice, Position)],
        target: &Endpoint,
    ) -> Result {
        let mut pages = source.pages(ends)?;
        while let Some(page) = pages.try_next().await? {
            if let Some(store) = target.store() {
                self.look_up(&page, source, store, &BTreeMap::new()).await?;
            }
            self.take_missing(page)?;
        }
        Ok(())
    }

    /// Writes all commits to a file, and returns the number of their events.
    pub(super) async fn write(
        &mut self,
        source: &Endpoint,
        ends: &[(Slice, Position)],
        file: &mut ExportWriter,
    ) -> Result<u64> {
        let mut pages = source.pages(ends)?;
        while let Some(page) = pages.try_next().await? {
            for (stream, commit) in self.take_missing(page)? {
                file.commit(&stream, &commit)?;
            }
        }
        Ok(self.missing)
    }

    /// Appends the commits that the target lacks, and returns the number of their events. The last commit of a stream
    /// takes its `claims`.
    pub(super) async fn copy(
        &mut self,
        source: &Endpoint,
        ends: &[(Slice, Position)],
        target: &Store,
        claims: &ClaimsByStream,
    ) -> Result<u64> {
        let mut pages = source.pages(ends)?;
        while let Some(page) = pages.try_next().await? {
            self.look_up(&page, source, target, claims).await?;
            let missing = self.take_missing(page)?;
            let ends: Vec<_> =
                missing.iter().map(|(stream, commit)| (stream.clone(), commit.last())).collect();
            try_join_all(
                parts(missing, target).into_iter().map(|part| self.append_all(part, target, claims)),
            )
            .await?;
            for (stream, end) in ends {
                let known = self.all.entry(stream).or_default();
                (known.present, known.boundary) = (end, None);
            }
        }
        Ok(self.missing)
    }

    /// Finds the ends of streams that have not occurred before.
    async fn look_up(
        &mut self,
        page: &Page,
        source: &Endpoint,
        target: &Store,
        claims: &ClaimsByStream,
    ) -> Result {
        let mut new: Vec<&StreamId> = page.iter().map(|(stream, _)| stream).collect();
        new.sort();
        new.dedup();
        new.retain(|stream| !self.all.contains_key(*stream));
        for some in new.chunks(CONCURRENCY) {
            let look_up = async |stream: &StreamId| -> Result<Known> {
                let claims_at = match source.store() {
                    Some(store) if claims.contains_key(stream) => Some(store.head(stream).await?.version),
                    _ => None,
                };
                let present = target.head(stream).await?.version;
                Ok(Known { present, claims_at, ..Known::default() })
            };
            let known = try_join_all(some.iter().map(|stream| look_up(stream))).await?;
            self.all.extend(some.iter().map(|stream| (*stream).clone()).zip(known));
        }
        Ok(())
    }

    /// Records a page, and returns the commits that the target lacks.
    fn take_missing(&mut self, page: Page) -> Result<Page> {
        let mut missing = Vec::new();
        for (stream, commit) in page {
            let known = self.all.entry(stream.clone()).or_default();
            known.source.add(&stream, &commit)?;
            let events = commit.events.len() as u64;
            self.events += events;
            self.has_personal_data |= commit.events.iter().any(|event| event.payload().contains(SEALED));
            self.progress.add(events);
            if commit.last() <= known.present {
                known.boundary = Some((commit.first, commit.id));
                continue;
            }
            if commit.first <= known.present {
                return Err(Failure::of(format!(
                    "the stream `{stream}` of the target ends at version {}, inside a commit of the source: it is not a copy",
                    known.present
                )));
            }
            self.missing += events;
            missing.push((stream, commit));
        }
        Ok(missing)
    }

    async fn append_all(&self, commits: Page, target: &Store, claims: &ClaimsByStream) -> Result {
        for (stream, commit) in commits {
            let known = self.all.get(&stream);
            if let Some((first, id)) = known.and_then(|known| known.boundary)
                && commit.first == known.map_or(Version::NONE, |known| known.present).next()
            {
                check_boundary(target, &stream, first, id).await?;
            }
            let takes_claims = known.is_some_and(|known| known.claims_at == Some(commit.last()));
            let taken = claims.get(&stream).filter(|_| takes_claims);
            append(target, &stream, commit, taken.map_or(&[][..], Vec::as_slice)).await?;
        }
        Ok(())
    }

    /// Erases the content of streams that are archived or deleted in the source.
    pub(super) async fn erase_ended(&self, target: &Store) -> Result {
        for (stream, known) in &self.all {
            if !known.source.state.is_readable() {
                target.erase(stream).await?;
            }
        }
        Ok(())
    }

    /// Writes the versions and digests of all streams as lines of JSON.
    pub(super) fn report(&self, path: &Path) -> Result {
        self.write_report(path).map_err(|error| Failure::at(path, &error))
    }

    fn write_report(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for (stream, Known { source, .. }) in &self.all {
            let digest: String = source.digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let line = json!({ "stream": stream.as_str(), "version": source.last.get(), "sha256": digest });
            writeln!(file, "{line}")?;
        }
        file.flush()
    }
}

/// Divides commits into parts that may be appended at the same time.
///
/// On PostgreSQL, the order of the appends is that of the feed, so there is one part, and the feed of the copy has the
/// order of the source. On DynamoDB, the indexer determines the order anyway.
fn parts(commits: Page, target: &Store) -> Vec<Page> {
    if target.dynamo().is_none() {
        return vec![commits];
    }
    let mut parts: Vec<Page> = (0..CONCURRENCY).map(|_| Vec::new()).collect();
    for (stream, commit) in commits {
        let mut hasher = DefaultHasher::new();
        stream.hash(&mut hasher);
        parts[hasher.finish() as usize % CONCURRENCY].push((stream, commit));
    }
    parts
}

/// Checks that the last commit of a stream in the target is one of the source, so that the stream is the beginning of a
/// copy.
async fn check_boundary(target: &Store, stream: &StreamId, first: Version, id: CommitId) -> Result {
    let mut pages = target.read(Read::all(stream.clone()).after(first.previous()));
    let page = pages.try_next().await?;
    match page.iter().flat_map(|page| &page.commits).next() {
        Some(commit) if commit.id == id => Ok(()),
        _ => Err(other_events(stream, "its last commit has another id")),
    }
}

fn other_events(stream: &StreamId, reason: &str) -> Failure {
    Failure::of(format!(
        "the target has other events of the stream `{stream}`, so it is not a copy: {reason}"
    ))
}

/// Appends a commit, which takes `claims`.
async fn append(target: &Store, stream: &StreamId, commit: Commit, claims: &[Claim]) -> Result {
    let (first, erased) = (commit.first, erased_event());
    // An erased event cannot be appended. Another one keeps its version until the stream is erased.
    let stored = |event: EventData| if event == erased { EventData::new("erased", 1, "null") } else { event };
    let events = commit.events.into_iter().map(stored).collect();
    let new = NewCommit::new(commit.id, commit.time, events).with_metadata((*commit.metadata).clone());
    let append = Append::after_loaded(stream.clone(), first.previous(), new);
    if claims.is_empty() {
        return match target.append(&append).await {
            Ok(_) => Ok(()),
            Err(AppendError::Conflict(conflict)) => Err(other_events(stream, &conflict.to_string())),
            Err(error) => Err(error.into()),
        };
    }
    let taken = claims
        .iter()
        .take(CLAIMS_PER_COMMIT)
        .map(|claim| ClaimChange::Take { stream: stream.clone(), claim: claim.clone() });
    target.write(&WriteSet::new().append(append).claims(taken)).await?;
    Ok(())
}
