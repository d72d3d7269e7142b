//! `stream`: showing, following, and exporting events; closing, archiving, restoring, and deleting streams.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use es_core::chrono::SecondsFormat;
use es_core::feed::{FeedRead, Position};
use es_core::repository::{Archives, StreamLifecycle};
use es_core::store::{Commit, Read, StreamState, is_erased};
use es_core::{StreamId, Version};
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use super::export::{ExportWriter, left_by_export};
use crate::failure::{Failure, Result};
use crate::output::{Grid, Output, Progress, count, counted, on_interrupt};
use crate::payloads::archives;
use crate::session::Session;

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
    /// Move the events of a closed stream to an archive, one compressed object; continues if it was interrupted
    Archive {
        /// The stream
        stream: StreamId,
        /// Where to write the archive: a directory, or `s3://BUCKET/PREFIX`
        #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
        to: String,
    },
    /// Bring the events of an archived stream back, and delete the archive; continues if it was interrupted
    Restore {
        /// The stream
        stream: StreamId,
        /// Where the archive was written: a directory, or `s3://BUCKET/PREFIX`
        #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
        from: String,
    },
    /// Delete a stream for good, with its snapshot, claims, and idempotency keys; continues an interrupted deletion
    Delete {
        /// The stream
        stream: StreamId,
        /// Where the archive of the stream was written, which is deleted, too: a directory, or `s3://BUCKET/PREFIX`
        #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
        archives: Option<String>,
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
    /// Write to this file, which is replaced when the export is complete [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(command: Command, session: &Session) -> Result {
    match command {
        Command::Show { stream, from, until, payloads } => show(session, stream, from, until, payloads).await,
        Command::Tail { stream, payloads } => tail(session, stream, payloads).await,
        Command::Export(export) => export.run(session).await,
        Command::Close { stream } => Change::Close.run(session, &stream).await,
        Command::Archive { stream, to } => {
            Change::Archive(archives(&to, session).await?).run(session, &stream).await
        }
        Command::Restore { stream, from } => {
            Change::Restore(archives(&from, session).await?).run(session, &stream).await
        }
        Command::Delete { stream, archives: place } => {
            let archives = match place {
                Some(place) => Some(archives(&place, session).await?),
                None => None,
            };
            Change::Delete(archives).run(session, &stream).await
        }
    }
}

/// A change of the state of a stream.
enum Change {
    Close,
    Archive(Archives),
    Restore(Archives),
    Delete(Option<Archives>),
}

impl Change {
    /// Returns the verb, and the state afterwards.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Close => ("close", "closed"),
            Self::Archive(_) => ("archive", "archived"),
            Self::Restore(_) => ("restore", "restored"),
            Self::Delete(_) => ("delete", "deleted"),
        }
    }

    /// Asks for permission, makes the change, and prints the result.
    async fn run(self, session: &Session, stream: &StreamId) -> Result {
        let (verb, done) = self.words();
        let head = session.store.head(stream).await?;
        if head.version.is_none() {
            return Err(no_events(stream));
        }
        if let (Self::Delete(None), StreamState::Archived { archive, .. }) = (&self, &head.state) {
            return Err(Failure::of(format!(
                "the stream `{stream}` is archived in the object `{archive}`: pass --archives with its place to delete both"
            )));
        }
        if let (Self::Archive(_) | Self::Restore(_), StreamState::Deleted) = (&self, &head.state) {
            return Err(Failure::of(format!(
                "the stream `{stream}` is deleted: its events are gone for good"
            )));
        }
        let events = counted(head.version.get(), "event");
        let change = format!("{verb} the stream `{stream}` with {events}");
        let is_allowed = match self {
            Self::Archive(_) | Self::Restore(_) => session.may(&change)?,
            Self::Close | Self::Delete(_) => session.may_irrevocably(&change)?,
        };
        if !is_allowed {
            return Ok(());
        }
        on_interrupt(format!("run the same command to {verb} the rest of `{stream}`"))?;
        let streams = StreamLifecycle::new(session.store.feed());
        let end = match &self {
            Self::Close => streams.close(stream).await?,
            Self::Archive(archives) => streams.archive(stream, archives).await?,
            Self::Restore(archives) => streams.restore(stream, archives).await?,
            Self::Delete(None) => streams.delete(stream).await?,
            Self::Delete(Some(archives)) => streams.delete_archived(stream, archives).await?,
        };
        let (version, archive) = (end.version, end.archive.map(|archive| archive.to_string()));
        let mut value = json!({
            "stream": stream.as_str(), "state": done, "version": version.get(), "repeated": end.repeated,
        });
        if let Some(archive) = &archive {
            value["archive"] = json!(archive);
        }
        session.output.value(&value, || {
            let place = match (&self, &archive) {
                (Self::Archive(_), Some(archive)) => format!(" in the object {archive}"),
                (Self::Restore(_), Some(archive)) => format!(" from the object {archive}"),
                _ => String::new(),
            };
            match end.repeated {
                true => format!("the stream `{stream}` was {done} already, at version {version}"),
                false => format!("{done} the stream `{stream}` at version {version}{place}"),
            }
        })
    }
}

async fn show(session: &Session, stream: StreamId, from: u64, until: Option<u64>, payloads: bool) -> Result {
    let mut read = Read::all(stream.clone()).after(Version::new(from).previous());
    if let Some(until) = until {
        read = read.until(Version::new(until));
    }
    let mut pages = session.store.read(read);
    let mut shown = Vec::new();
    while let Some(page) = pages.try_next().await? {
        shown.extend(page.commits);
    }
    if shown.is_empty() {
        let end = session.store.head(&stream).await?.version;
        if end.is_none() {
            return Err(no_events(&stream));
        }
        return Err(Failure::of(format!(
            "the stream `{stream}` has no events in this range of versions: it ends at version {end}"
        )));
    }
    Listing::new(session.output, payloads).print(&shown)
}

fn no_events(stream: &StreamId) -> Failure {
    Failure::of(format!("the stream `{stream}` has no events: check its name"))
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
        let path = self.output.as_deref().filter(|path| *path != Path::new("-"));
        if let Some(path) = path
            && !session.may(&format!("write the events to {}", path.display()))?
        {
            return Ok(());
        }
        let mut to = match path {
            Some(path) => {
                on_interrupt(left_by_export(path))?;
                ExportWriter::create(path)?
            }
            None => ExportWriter::stdout(),
        };
        let (exported, erased) = match self.all {
            true => self.all(session, &mut to).await?,
            false => (self.streams(session, &mut to).await?, 0),
        };
        to.finish()?;
        if let Some(path) = path {
            let value = json!({ "events": exported, "erased": erased, "file": path });
            session.output.value(&value, || {
                let mut text = format!("exported {} to {}", counted(exported, "event"), path.display());
                if erased > 0 {
                    text.push_str(&format!("; left out {} of deleted or archived streams", count(erased)));
                }
                text
            })?;
        }
        Ok(())
    }

    /// Exports the feed, one slice after the other, parents before children: the commits of a stream are in order.
    /// Returns the number of events, and of those of deleted and archived streams, which are left out.
    async fn all(&self, session: &Session, to: &mut ExportWriter) -> Result<(u64, u64)> {
        let store = &session.store;
        let ends = store.ends().await?;
        let total = ends.iter().map(|(_, end)| end.get()).sum();
        let progress = session.output.progress(total, "events");
        let (mut exported, mut erased) = (0, 0);
        for (slice, end) in ends {
            let mut read = FeedRead::new(slice, Position::NONE).limit(500);
            while read.after < end {
                let page = store.read_feed(&read).await?;
                for entry in &page.entries {
                    exported += write(to, &entry.stream, &entry.commit, &progress)?;
                }
                erased += page.erased;
                if page.is_last {
                    break;
                }
                (read.after, read.anchor) = (page.through, page.anchor);
            }
        }
        Ok((exported, erased))
    }

    async fn streams(&self, session: &Session, to: &mut ExportWriter) -> Result<u64> {
        let progress = session.output.progress(0, "events");
        let mut exported = 0;
        for stream in &self.streams {
            let before = exported;
            let mut pages = session.store.read(Read::all(stream.clone()));
            while let Some(page) = pages.try_next().await? {
                for commit in &page.commits {
                    if commit.events.iter().any(is_erased) {
                        let closed = session.store.head(stream).await?;
                        return Err(Failure::of(match closed.state {
                            StreamState::Archived { archive, .. } => {
                                format!(
                                    "the stream `{stream}` is archived in the object `{archive}`: restore it first"
                                )
                            }
                            _ => format!("the stream `{stream}` is deleted"),
                        }));
                    }
                    exported += write(to, stream, commit, &progress)?;
                }
            }
            if exported == before {
                return Err(no_events(stream));
            }
        }
        Ok(exported)
    }
}

/// Writes a commit, and returns the number of its events.
fn write(to: &mut ExportWriter, stream: &StreamId, commit: &Commit, progress: &Progress) -> Result<u64> {
    to.commit(stream, commit)?;
    let events = commit.events.len() as u64;
    progress.add(events);
    Ok(events)
}
