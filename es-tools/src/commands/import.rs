//! `import`: appends the commits of an export, with their ids, times, and versions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use es_core::chrono::{DateTime, Utc};
use es_core::event::{CommitId, EventData};
use es_core::store::{Append, Commit, EventStore, NewCommit};
use es_core::{ExpectedVersion, Metadata, StreamId, Version};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::output::count;
use crate::session::Session;

/// The options of `import`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The file that `stream export` has written
    #[arg(value_name = "FILE")]
    export: PathBuf,
}

/// A line of an export: one commit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    stream: String,
    first: u64,
    id: String,
    time: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
    events: Vec<LineEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LineEvent {
    name: String,
    schema: u32,
    /// The stored text, byte for byte.
    payload: String,
}

impl Line {
    pub(super) fn of(stream: &StreamId, commit: &Commit) -> Self {
        let event = |event: &EventData| LineEvent {
            name: event.name().to_owned(),
            schema: event.version(),
            payload: event.payload().to_owned(),
        };
        Self {
            stream: stream.to_string(),
            first: commit.first.get(),
            id: commit.id.to_string(),
            time: commit.time,
            metadata: (*commit.metadata).clone(),
            events: commit.events.iter().map(event).collect(),
        }
    }

    fn append(self) -> Result<Append> {
        let stream: StreamId = self.stream.parse()?;
        let id: CommitId = self.id.parse()?;
        let expected = match Version::new(self.first).previous() {
            Version::NONE => ExpectedVersion::NoStream,
            version => ExpectedVersion::Exact(version),
        };
        let event = |event: LineEvent| EventData::new(event.name, event.schema, event.payload);
        let events = self.events.into_iter().map(event).collect();
        Ok(Append::new(stream, expected, NewCommit::new(id, self.time, events).with_metadata(self.metadata)))
    }
}

/// The counts of an import.
#[derive(Debug, Default, Serialize)]
struct Imported {
    streams: u64,
    events: u64,
    /// The events that were not in the table before.
    new: u64,
}

pub(super) async fn run(options: &Options, session: &Session) -> Result {
    let checked = check(options)?;
    let Imported { streams, events, .. } = checked;
    let change = format!("import {} events of {} streams", count(events), count(streams));
    if !session.may(&change)? {
        return Ok(());
    }
    let progress = session.output.progress(events, "events");
    let mut imported = Imported { new: 0, ..checked };
    for line in lines(options)? {
        let (number, append) = line?;
        let events = append.events();
        let appended = session.store.append(&append).await.map_err(|error| at(number, &error))?;
        if !appended.repeated {
            imported.new += events;
        }
        progress.add(events);
    }
    drop(progress);
    session.output.value(&imported, || {
        let present = events - imported.new;
        format!("imported {} events; {} were in the table already", count(imported.new), count(present))
    })
}

/// Checks that every line can be read, and that the commits of each stream follow each other.
fn check(options: &Options) -> Result<Imported> {
    let mut ends: BTreeMap<StreamId, Version> = BTreeMap::new();
    let mut counts = Imported::default();
    for line in lines(options)? {
        let (number, append) = line?;
        let start = match append.expected() {
            ExpectedVersion::Exact(version) => version,
            _ => Version::NONE,
        };
        let stream = append.stream();
        if let Some(end) = ends.get(stream)
            && *end != start
        {
            return Err(Failure::of(format!(
                "line {number}: the commit follows version {start} of `{stream}`, and the previous one ends at {end}"
            )));
        }
        let last = append.last_version_after(start).map_err(|error| at(number, &error))?;
        ends.insert(stream.clone(), last);
        counts.events += append.events();
    }
    counts.streams = ends.len() as u64;
    Ok(counts)
}

/// Returns the commits of the file with their line numbers.
fn lines(options: &Options) -> Result<impl Iterator<Item = Result<(usize, Append)>>> {
    let path = options.export.display().to_string();
    let file = File::open(&options.export).map_err(|error| Failure::of(format!("{path}: {error}")))?;
    Ok(BufReader::new(file).lines().enumerate().map(|(index, line)| {
        let number = index + 1;
        let parsed: Line = serde_json::from_str(&line?).map_err(|error| at(number, &error))?;
        Ok((number, parsed.append()?))
    }))
}

fn at(line: usize, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::of(format!("line {line}: {}", es_core::error_text(error)))
}
