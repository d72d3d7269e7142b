//! `import`: appends the commits of an export, with their ids, times, and versions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use es_core::store::{Append, NewCommit};
use es_core::{ExpectedVersion, StreamId, Version};
use serde::Serialize;

use super::lines::{Entry, Input, at};
use crate::failure::{Failure, Result};
use crate::output::{counted, on_interrupt};
use crate::session::Session;

/// The options of `import`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The file that `stream export` has written, or `-` for standard input
    #[arg(value_name = "FILE")]
    export: PathBuf,
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
    on_interrupt("the events so far are imported: run the same command to continue")?;
    let export = Input::open(options.export.clone()).await?;
    let checked = check(&export)?;
    let Imported { streams, events, .. } = checked;
    let change = format!("import {} of {}", counted(events, "event"), counted(streams, "stream"));
    if !session.may(&change)? {
        return Ok(());
    }
    let progress = session.output.progress(events, "events");
    let mut imported = Imported { new: 0, ..checked };
    for line in appends(&export)? {
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
        format!("imported {}; already stored: {}", counted(imported.new, "event"), counted(present, "event"))
    })
}

/// Checks that every line can be read, and that the commits of each stream follow each other.
fn check(export: &Input) -> Result<Imported> {
    let mut ends: BTreeMap<StreamId, Version> = BTreeMap::new();
    let mut counts = Imported::default();
    for line in appends(export)? {
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
fn appends(export: &Input) -> Result<impl Iterator<Item = Result<(usize, Append)>>> {
    Ok(export.lines()?.map(|line| {
        let (number, entry) = line?;
        let Entry::Commit(stream, commit) = entry else {
            return Err(Failure::of(format!(
                "line {number}: a claim or an idempotency key: import the file with `copy --from export:FILE`"
            )));
        };
        let expected = match commit.first.previous() {
            Version::NONE => ExpectedVersion::NoStream,
            version => ExpectedVersion::Exact(version),
        };
        let new = NewCommit::new(commit.id, commit.time, commit.events);
        let new = new.with_metadata((*commit.metadata).clone());
        Ok((number, Append::new(stream, expected, new)))
    }))
}
