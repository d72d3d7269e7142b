//! `stream`: showing, following, and exporting events; closing and deleting streams.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use es_core::chrono::{SecondsFormat, Utc};
use es_core::event::CommitId;
use es_core::feed::{FeedRead, Position};
use es_core::store::{Append, AppendError, Commit, Read, StreamState};
use es_core::uuid::Uuid;
use es_core::{StreamId, Version};
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use super::lines::CommitLine;
use crate::failure::{Failure, Result};
use crate::output::{Grid, Output, Progress, count};
use crate::session::Session;
use crate::store::Store;

/// How often `tail` looks for new events.
const POLL: Duration = Duration::from_secs(1);

/// The commands of `stream`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the events of a stream
    Show {
        /// The stream: the name of the aggregate, `#`, and its id
        stream: StreamId,
        /// Start with this version, or with the commit that contains it
        #[arg(long, value_name = "VERSION", default_value_t = 1)]
        from: u64,
        /// End with this version, or with the commit that contains it
        #[arg(long, value_name = "VERSION")]
        until: Option<u64>,
        /// Show the payloads and the metadata, which may be confidential
        #[arg(long)]
        payloads: bool,
    },
    /// Show new events of a stream as they are recorded, until interrupted
    Tail {
        /// The stream
        stream: StreamId,
        /// Show the payloads and the metadata, which may be confidential
        #[arg(long)]
        payloads: bool,
    },
    /// Export commits as JSON lines, which `import` reads
    Export(Export),
    /// Close a stream for good: it can still be read, but accepts no commands
    Close {
        /// The stream
        stream: StreamId,
    },
    /// Delete a stream for good, with its snapshot, claims, and idempotency keys; continues an interrupted deletion
    Delete {
        /// The stream
        stream: StreamId,
    },
}

/// The options of `stream export`.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// The streams
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    streams: Vec<StreamId>,
    /// Export all events of the feed
    #[arg(long)]
    all: bool,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(command: Command, session: &Session) -> Result {
    match command {
        Command::Show { stream, from, until, payloads } => show(session, stream, from, until, payloads).await,
        Command::Tail { stream, payloads } => tail(session, stream, payloads).await,
        Command::Export(export) => export.run(session).await,
        Command::Close { stream } => end(session, &stream, StreamState::Closed).await,
        Command::Delete { stream } => end(session, &stream, StreamState::Deleted).await,
    }
}

/// Closes or deletes a stream.
async fn end(session: &Session, stream: &StreamId, state: StreamState) -> Result {
    let store = &session.store;
    let (verb, done) = match state {
        StreamState::Deleted => ("delete", "deleted"),
        _ => ("close", "closed"),
    };
    let head = store.head(stream).await?;
    if head.version.is_none() {
        return Err(Failure::of(format!("the stream `{stream}` has no events")));
    }
    let events = count(head.version.get());
    if !session.may_irrevocably(&format!("{verb} the stream `{stream}` with {events} events"))? {
        return Ok(());
    }
    let (version, repeated) = append_end(store, stream, &state).await?;
    if state == StreamState::Deleted {
        store.erase(stream).await?;
    }
    let value =
        json!({ "stream": stream.as_str(), "state": done, "version": version.get(), "repeated": repeated });
    session.output.value(&value, || match repeated {
        true => format!("the stream `{stream}` was {done} already, at version {version}"),
        false => format!("{done} the stream `{stream}` at version {version}"),
    })
}

/// Appends the commit that changes the state of the stream. Returns the last version, and whether the stream was in that
/// state already.
async fn append_end(store: &Store, stream: &StreamId, state: &StreamState) -> Result<(Version, bool)> {
    let id = CommitId::new(Uuid::now_v7());
    loop {
        let head = store.head(stream).await?;
        if !head.state.accepts(Some(state)) {
            return Ok((head.version, true));
        }
        let append = Append::state_change(stream.clone(), &head, state, id, Utc::now())?;
        match store.append(&append).await {
            Ok(appended) => return Ok((appended.last, false)),
            // A command was faster.
            Err(AppendError::Conflict(_)) => {}
            Err(AppendError::Store(error)) => return Err(error.into()),
            Err(error) => return Err(Failure::of(error.to_string())),
        }
    }
}

async fn show(session: &Session, stream: StreamId, from: u64, until: Option<u64>, payloads: bool) -> Result {
    let mut read = Read::all(stream.clone());
    if let Some(until) = until {
        read = read.until(Version::new(until));
    }
    let mut pages = session.store.read(read);
    let (mut is_empty, mut shown) = (true, Vec::new());
    while let Some(page) = pages.try_next().await? {
        is_empty &= page.commits.is_empty();
        shown.extend(page.commits.into_iter().filter(|commit| commit.last().get() >= from));
    }
    if is_empty {
        return Err(Failure::of(format!("the stream `{stream}` has no events")));
    }
    Listing::new(session.output, payloads).print(&shown)
}

/// A listing of commits: one line of JSON for each, or a table of their events.
struct Listing {
    output: Output,
    payloads: bool,
    /// Whether the titles of the table are printed.
    has_titles: bool,
}

impl Listing {
    fn new(output: Output, payloads: bool) -> Self {
        Self { output, payloads, has_titles: false }
    }

    fn print(&mut self, commits: &[Commit]) -> Result {
        let mut grid = Grid::new([">version", "time", "event", "actor", "commit"]);
        let mut payloads = Vec::new();
        for commit in commits {
            self.output.json_line(|| described(commit, self.payloads))?;
            let actor = commit.metadata.actor().unwrap_or("-");
            let time = commit.time.to_rfc3339_opts(SecondsFormat::Millis, true);
            for (version, _, event) in commit.numbered() {
                let name = match event.version() {
                    1 => event.name().to_owned(),
                    schema => format!("{} v{schema}", event.name()),
                };
                grid.row([version.to_string(), time.clone(), name, actor.to_owned(), commit.id.to_string()]);
                payloads.push(event.payload());
            }
        }
        let text = grid.to_string();
        let mut lines = text.lines();
        let titles = lines.next().filter(|_| !self.has_titles);
        let mut shown: Vec<&str> = titles.into_iter().collect();
        for (line, payload) in lines.zip(payloads) {
            shown.push(line);
            shown.extend(self.payloads.then_some(payload));
        }
        self.has_titles = true;
        self.output.text(|| shown.join("\n"))
    }
}

/// Returns a commit as JSON.
fn described(commit: &Commit, payloads: bool) -> Value {
    let events = commit.numbered().map(|(version, _, event)| {
        let mut value = json!({ "version": version.get(), "name": event.name(), "schema": event.version() });
        if payloads {
            // A payload that is not JSON is shown as it is stored.
            value["payload"] =
                serde_json::from_str(event.payload()).unwrap_or_else(|_| event.payload().into());
        }
        value
    });
    let mut value = json!({
        "commit": commit.id.to_string(), "time": commit.time, "actor": commit.metadata.actor(),
        "events": events.collect::<Vec<_>>(),
    });
    if payloads {
        value["metadata"] = json!(&*commit.metadata);
    }
    value
}

async fn tail(session: &Session, stream: StreamId, payloads: bool) -> Result {
    let mut after = session.store.head(&stream).await?.version;
    let mut listing = Listing::new(session.output, payloads);
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            () = tokio::time::sleep(POLL) => {}
        }
        let mut pages = session.store.read(Read::all(stream.clone()).after(after));
        while let Some(page) = pages.try_next().await? {
            if let Some(last) = page.commits.last() {
                after = last.last();
                listing.print(&page.commits)?;
            }
        }
    }
}

impl Export {
    async fn run(&self, session: &Session) -> Result {
        let mut to: Box<dyn Write + Send> = match &self.output {
            Some(path) => Box::new(BufWriter::new(File::create(path)?)),
            None => Box::new(BufWriter::new(std::io::stdout())),
        };
        let exported = match self.all {
            true => self.all(session, &mut to).await?,
            false => self.streams(session, &mut to).await?,
        };
        to.flush()?;
        if let Some(path) = &self.output {
            let value = json!({ "events": exported, "file": path });
            session
                .output
                .value(&value, || format!("exported {} events to {}", count(exported), path.display()))?;
        }
        Ok(())
    }

    /// Exports the feed, one slice after the other, parents before children: the commits of a stream are in order.
    async fn all(&self, session: &Session, to: &mut (dyn Write + Send)) -> Result<u64> {
        let store = &session.store;
        let mut ends = Vec::new();
        for slice in store.slice_tree().await?.iter() {
            ends.push((slice, store.feed_end(slice).await?.position));
        }
        let total = ends.iter().map(|(_, end)| end.get()).sum();
        let progress = session.output.progress(total, "events");
        let mut exported = 0;
        for (slice, end) in ends {
            let mut read = FeedRead::new(slice, Position::NONE).limit(500);
            while read.after < end {
                let page = store.read_feed(&read).await?;
                for entry in &page.entries {
                    exported += write(to, &entry.stream, &entry.commit, &progress)?;
                }
                if page.is_last {
                    break;
                }
                (read.after, read.anchor) = (page.through, page.anchor);
            }
        }
        Ok(exported)
    }

    async fn streams(&self, session: &Session, to: &mut (dyn Write + Send)) -> Result<u64> {
        let progress = session.output.progress(0, "events");
        let mut exported = 0;
        for stream in &self.streams {
            let mut pages = session.store.read(Read::all(stream.clone()));
            while let Some(page) = pages.try_next().await? {
                for commit in &page.commits {
                    exported += write(to, stream, commit, &progress)?;
                }
            }
        }
        Ok(exported)
    }
}

/// Writes a commit as a line, and returns the number of its events.
fn write(
    to: &mut (dyn Write + Send),
    stream: &StreamId,
    commit: &Commit,
    progress: &Progress,
) -> Result<u64> {
    serde_json::to_writer(&mut *to, &CommitLine::of(stream, commit))?;
    to.write_all(b"\n")?;
    let events = commit.events.len() as u64;
    progress.add(events);
    Ok(events)
}
