//! `feed`: inspecting, auditing, reconciling, and splitting the feed of all events.

use std::collections::BTreeSet;

use clap::Subcommand;
use es_core::chrono::SecondsFormat;
use es_core::event::EventData;
use es_core::feed::{Feed as _, FeedEntry, FeedRead, Position, Slice, SliceTree};
use es_core::projection::workers_without_splits;
use es_core::{StreamId, Version};
use es_dynamo::{AuditReport, DynamoStore, Indexer, IndexerShard, Reconciler};
use serde_json::{Value, json};

use crate::consumers::{Kind, Overview, overview};
use crate::failure::{Failure, Result};
use crate::output::{Grid, count, counted, on_interrupt, seconds};
use crate::session::Session;

/// The commands of `feed`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the end of each slice, and how far each projection and process is behind
    Lag,
    /// Show the shards of the table's stream, which indexers read them, and how far they are behind
    Indexers,
    /// Show the commits of a slice in the order of the feed
    Show {
        /// The number of the slice, starting at 0
        slice: u32,
        /// Start after this position
        #[arg(long, value_name = "POSITION", default_value_t = 0)]
        after: u64,
        /// The approximate number of events
        #[arg(long, value_name = "EVENTS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Split a slice in two while everything runs; cannot be undone
    Split {
        /// The number of the slice, starting at 0
        slice: u32,
        /// Split it even if workers or indexers run a version that stops there
        #[arg(long)]
        anyway: bool,
    },
    /// Compare the feed with the table, without changing either; reads the whole table
    Audit,
    /// Add the commits to the feed that it lacks; reads the whole table
    Reconcile {
        /// How many segments of the table to scan concurrently
        #[arg(long, value_name = "COUNT", default_value_t = 4)]
        segments: u32,
        /// Store the progress under this name, so that another run continues from there
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Make all consumers pass over the commits of a stream that are gone from the table
    PassOver {
        /// The stream: the name of the aggregate, `#`, and its id
        stream: StreamId,
        /// Pass over missing commits up to this version [default: the last one in the feed]
        #[arg(long, value_name = "VERSION")]
        through: Option<u64>,
    },
}

pub(super) async fn run(command: Command, session: &Session) -> Result {
    match command {
        Command::Lag => lag(session).await,
        Command::Indexers => indexers(session, indexed(session, "feed indexers")?).await,
        Command::Show { slice, after, limit } => show(session, slice, after, limit).await,
        Command::Split { slice, anyway } => split(session, Slice::new(slice), anyway).await,
        Command::Audit => audit(session, indexed(session, "feed audit")?).await,
        Command::Reconcile { segments, name } => {
            reconcile(session, indexed(session, "feed reconcile")?, segments, name).await
        }
        Command::PassOver { stream, through } => {
            pass_over(session, indexed(session, "feed pass-over")?, &stream, through).await
        }
    }
}

/// Returns the store with a feed that an indexer writes.
fn indexed<'a>(session: &'a Session, command: &str) -> Result<&'a DynamoStore> {
    session
        .store
        .need_dynamo(command, "on PostgreSQL, the feed consists of the commits, and no indexer writes it")
}

async fn lag(session: &Session) -> Result {
    let store = &session.store;
    let tree = store.slice_tree().await?;
    let consumers = overview(store).await?;
    let ends = store.ends().await?;
    let delay = store.feed_delay().await?;
    let slice = |(slice, end): &(Slice, Position)| {
        let children = tree.children(*slice).map(|children| children.map(Slice::get));
        json!({ "slice": slice.get(), "end": end.get(), "children": children })
    };
    let slices: Vec<_> = ends.iter().map(slice).collect();
    let values: Vec<_> = consumers.iter().map(|one| one.value(&ends)).collect();
    let mut value = json!({ "slices": slices, "consumers": values });
    if let Some((delay, _)) = &delay {
        value["delay"] = delay.clone();
    }
    session.output.value(&value, || {
        let mut grid = Grid::new([">slice", ">end", "state"]);
        for (slice, end) in &ends {
            grid.row([slice.to_string(), count(end.get()), state(&tree, *slice)]);
        }
        let mut lags = Grid::new(["consumer", "kind", ">lag"]);
        for one in &consumers {
            let Overview { registration, status } = one;
            let lag = count(status.lag(&ends));
            lags.row([registration.name.clone(), Kind::of(registration).name().to_owned(), lag]);
        }
        let mut text = grid.to_string();
        if !lags.is_empty() {
            text.push_str(&format!("\n{lags}"));
        }
        if let Some((_, delay)) = &delay {
            text.push_str(&format!("\n{delay}"));
        }
        text
    })
}

async fn indexers(session: &Session, store: &DynamoStore) -> Result {
    let shards = Indexer::shards(store).await?;
    let value = |shard: &IndexerShard| {
        json!({
            "shard": shard.id, "indexer": shard.owner.map(|owner| owner.to_string()), "finished": shard.is_finished,
            "heartbeat": shard.heartbeat, "lag_seconds": shard.lag.map(|lag| lag.as_secs_f64()),
        })
    };
    session.output.value(&shards.iter().map(value).collect::<Vec<_>>(), || {
        if shards.is_empty() {
            return "no indexer has read the table's stream (an embedded file has none)".to_owned();
        }
        let mut grid = Grid::new(["shard", "indexer", "last heartbeat", ">lag in s"]);
        for shard in &shards {
            let indexer = match shard.owner {
                Some(owner) => owner.to_string(),
                None if shard.is_finished => "- (read to its end)".to_owned(),
                None => "- (waits for an indexer)".to_owned(),
            };
            let heartbeat = shard.heartbeat.to_rfc3339_opts(SecondsFormat::Secs, true);
            grid.row([
                shard.id.clone(),
                indexer,
                heartbeat,
                shard.lag.map_or_else(|| "-".to_owned(), seconds),
            ]);
        }
        grid.to_string()
    })
}

/// Returns whether a slice is open, or the slices into which it was split.
pub(crate) fn state(tree: &SliceTree, slice: Slice) -> String {
    match tree.children(slice) {
        None => "open".to_owned(),
        Some([first, second]) => format!("split into {first} and {second}"),
    }
}

/// Returns the slices of the feed, which must include `slice`.
async fn tree_with(session: &Session, slice: Slice) -> Result<SliceTree> {
    let tree = session.store.slice_tree().await?;
    match tree.contains(slice) {
        true => Ok(tree),
        false => Err(Failure::of(format!("slice {slice} does not exist: `feed lag` lists all slices"))),
    }
}

async fn split(session: &Session, slice: Slice, anyway: bool) -> Result {
    let store = session
        .store
        .need_dynamo("feed split", "on PostgreSQL, the feed is one slice in the order of the transactions")?;
    let tree = tree_with(session, slice).await?;
    let outdated = outdated(store).await?;
    if !tree.is_closed(slice) && !anyway && !outdated.is_empty() {
        return Err(Failure::of(format!(
            "these run a version that stops at a split: {}; update them first, or pass `--anyway` if they have ended",
            outdated.join(", ")
        )));
    }
    if !tree.is_closed(slice)
        && !session.may_irrevocably(&format!("split slice {slice} of the feed in two"))?
    {
        return Ok(());
    }
    // A split that was interrupted is completed.
    let children = session.store.split(slice).await?;
    let end = session.store.feed_end(slice).await?.position;
    let value = json!({ "slice": slice.get(), "end": end.get(), "children": children.map(Slice::get) });
    session.output.value(&value, || {
        let [first, second] = children;
        let when = if tree.is_closed(slice) { "was split before" } else { "is split" };
        format!(
            "slice {slice} {when} at position {}: its streams continue in the slices {first} and {second}",
            count(end.get())
        )
    })
}

/// Returns the workers and indexers whose versions do not follow slices that are split.
async fn outdated(store: &DynamoStore) -> Result<Vec<String>> {
    let workers = workers_without_splits(store).await?.into_iter();
    let shards = Indexer::shards(store).await?.into_iter();
    let shards = shards.filter(|shard| shard.owner.is_some() && !shard.is_finished && !shard.follows_splits);
    let indexers: BTreeSet<_> = shards.filter_map(|shard| shard.owner).collect();
    let workers = workers.map(|(name, number)| format!("{} of `{name}`", counted(number, "worker")));
    Ok(workers.chain(indexers.into_iter().map(|id| format!("the indexer {id}"))).collect())
}

async fn show(session: &Session, slice: u32, after: u64, limit: u32) -> Result {
    tree_with(session, Slice::new(slice)).await?;
    let end = session.store.feed_end(Slice::new(slice)).await?.position;
    if after > end.get() {
        return Err(Failure::of(format!("slice {slice} ends at position {end}, before position {after}")));
    }
    let mut read = FeedRead::new(Slice::new(slice), Position::new(after)).limit(limit);
    let mut entries: Vec<FeedEntry> = Vec::new();
    loop {
        let page = session.store.read_feed(&read).await?;
        entries.extend(page.entries);
        let events: usize = entries.iter().map(|entry| entry.commit.events.len()).sum();
        if page.is_last || events >= limit as usize {
            break;
        }
        (read.after, read.anchor) = (page.through, page.anchor);
    }
    let mut grid = Grid::new([">position", "stream", ">version", "event", "time"]);
    for FeedEntry { position, stream, commit, .. } in &entries {
        let names: Vec<_> = commit.events.iter().map(EventData::name).collect();
        session.output.json_line(|| {
            json!({
                "position": position.get(), "stream": stream.as_str(), "first": commit.first.get(),
                "events": names, "commit": commit.id.to_string(), "time": commit.time,
            })
        })?;
        for (place, (version, _, event)) in (0..).zip(commit.numbered()) {
            let time = commit.time.to_rfc3339_opts(SecondsFormat::Millis, true);
            grid.row([
                position.plus(place).to_string(),
                stream.to_string(),
                version.to_string(),
                event.name().into(),
                time,
            ]);
        }
    }
    session.output.text(|| grid.to_string())
}

async fn audit(session: &Session, store: &DynamoStore) -> Result {
    let progress = session.output.progress(0, "audits");
    let report = Reconciler::builder(store).build().audit().await?;
    drop(progress);
    session.output.value(&audited(&report), || {
        let AuditReport { streams, events, cost, .. } = &report;
        let (streams, events) = (counted(*streams, "stream"), counted(*events, "event"));
        let mut lines = vec![format!("{streams} in the table, {events} in the feed ({cost})")];
        lines.extend(findings(&report));
        if report.is_sound() {
            lines.push("the feed has every event once and in order".to_owned());
        }
        lines.join("\n")
    })?;
    if report.is_sound() { Ok(()) } else { Err(Failure::Found) }
}

/// Returns a report as JSON.
fn audited(report: &AuditReport) -> Value {
    let ends = |(stream, (feed, table)): (&StreamId, &(Version, Version))| json!({ "stream": stream.as_str(), "feed": feed.get(), "table": table.get() });
    json!({
        "sound": report.is_sound(),
        "streams": report.streams,
        "events": report.events,
        "missing": report.missing.iter().map(ends).collect::<Vec<_>>(),
        "unfounded": report.unfounded.iter().map(ends).collect::<Vec<_>>(),
        "contradicting": report.contradicting.keys().map(StreamId::as_str).collect::<Vec<_>>(),
        "disordered": report.disordered,
        "damaged": report.damaged.iter().map(|(stream, error)| json!({ "stream": stream.as_str(), "error": error }))
            .collect::<Vec<_>>(),
        "foreign_items": report.foreign_items,
    })
}

/// What to do if the feed contradicts the table.
const CONTRADICTION: &str =
    "the table was restored, or changed by hand: the book's chapter \"Backup and restore\" says what to do";

/// What to do if a commit cannot be decoded.
const DAMAGE: &str = "restore or correct the items of the damaged streams, and run `feed reconcile`";

/// Returns a line for each problem, and below them what to do.
fn findings(report: &AuditReport) -> Vec<String> {
    let mut lines = Vec::new();
    for (stream, (feed, table)) in &report.missing {
        lines.push(format!("missing: `{stream}` is at version {table}, and at version {feed} in the feed: run `feed reconcile`"));
    }
    for (stream, (feed, table)) in &report.unfounded {
        lines.push(format!(
            "unfounded: `{stream}` is at version {feed} in the feed, and at version {table} in the table: restore it, or run \
             `feed pass-over`"
        ));
    }
    for (stream, version) in &report.contradicting {
        lines.push(format!(
            "contradicting: the commits of `{stream}` up to version {version} differ from those in the feed"
        ));
    }
    lines.extend(report.disordered.iter().map(|problem| format!("disordered: {problem}")));
    for (stream, error) in &report.damaged {
        lines.push(format!("damaged: `{stream}`: {error}"));
    }
    if report.foreign_items > 0 {
        let items = counted(report.foreign_items, "item");
        lines.push(format!(
            "foreign: {items} in the table with the sort key of a commit, but without a stream"
        ));
    }
    if !(report.unfounded.is_empty() && report.contradicting.is_empty() && report.disordered.is_empty()) {
        lines.push(CONTRADICTION.to_owned());
    }
    if !report.damaged.is_empty() {
        lines.push(DAMAGE.to_owned());
    }
    lines
}

async fn pass_over(
    session: &Session,
    store: &DynamoStore,
    stream: &StreamId,
    through: Option<u64>,
) -> Result {
    let indexed = store.indexed(stream).await?;
    if indexed.is_none() {
        return Err(Failure::of(format!("the feed has no events of the stream `{stream}`: check its name")));
    }
    let through = through.map_or(indexed, Version::new);
    if session.may_irrevocably(&format!(
        "pass over the commits of `{stream}` up to version {through} that are gone, in all consumers"
    ))? {
        Reconciler::builder(store).build().pass_over(stream, through).await?;
        let value = json!({ "stream": stream.as_str(), "through": through.get() });
        session.output.value(&value, || {
            format!("consumers pass over the commits of `{stream}` up to version {through} that are gone")
        })?;
    }
    Ok(())
}

async fn reconcile(session: &Session, store: &DynamoStore, segments: u32, name: Option<String>) -> Result {
    if session.is_dry_run() {
        let report = Reconciler::builder(store).build().audit().await?;
        let missing: u64 = report.missing.values().map(|(feed, table)| table.since(*feed)).sum();
        session.may(&format!(
            "add {} of {} to the feed",
            counted(missing, "event"),
            counted(report.missing.len() as u64, "stream")
        ))?;
        return Ok(());
    }
    on_interrupt(match &name {
        Some(_) => "run the same command to continue",
        None => {
            "the events that were added stay in the feed: run the command again; without --name, it starts from the beginning"
        }
    })?;
    let bar = session.output.progress(0, "commits");
    let mut builder = Reconciler::builder(store).segments(segments).on_progress({
        let bar = bar.clone();
        move |progress| bar.set(progress.commits)
    });
    if let Some(name) = name {
        builder = builder.name(name);
    }
    let done = builder.build().run().await?;
    drop(bar);
    let streams = |set: &BTreeSet<StreamId>| set.iter().map(StreamId::to_string).collect::<Vec<_>>();
    let (damaged, contradicting) = (streams(&done.damaged), streams(&done.contradicting));
    let value = json!({
        "commits": done.commits, "events_indexed": done.events_indexed, "foreign_items": done.foreign_items,
        "damaged": damaged, "contradicting": contradicting,
    });
    session.output.value(&value, || {
        let (commits, events) = (counted(done.commits, "commit"), counted(done.events_indexed, "event"));
        let mut lines = vec![format!("read {commits}, and added {events} to the feed ({})", done.cost)];
        lines.extend(damaged.iter().map(|stream| format!("damaged, and not indexed further: `{stream}`")));
        lines.extend(
            contradicting
                .iter()
                .map(|stream| format!("contradicts the feed, and not indexed further: `{stream}`")),
        );
        lines.extend((!contradicting.is_empty()).then(|| CONTRADICTION.to_owned()));
        lines.extend((!damaged.is_empty()).then(|| DAMAGE.to_owned()));
        lines.join("\n")
    })?;
    if damaged.is_empty() && contradicting.is_empty() { Ok(()) } else { Err(Failure::Found) }
}
