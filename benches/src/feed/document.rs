//! The document: what was measured, how, and the tables.

use crate::costs::Cost;
use crate::flow::Flow;
use crate::place::Indexing;
use crate::plan::Plan;
use crate::rebuild::{OnEngine, Rebuild};
use crate::report::{self, Table, count, milliseconds, number};

/// How many read units cost as much as a write unit, on demand and provisioned.
const READS_A_WRITE: f64 = 5.0;

pub struct Measured {
    pub flows: Vec<Flow>,
    pub rebuilds: Vec<Rebuild>,
    pub rebuilt_on_engine: OnEngine,
    pub costs: Vec<Cost>,
}

pub fn print(plan: &Plan, measured: &Measured) {
    introduction();
    flows(plan, &measured.flows);
    rebuilds(&measured.rebuilds, &measured.rebuilt_on_engine);
    costs(plan, &measured.costs);
}

fn introduction() {
    println!(
        "# Benchmarks of the feed

From a commit to the row of a read model: how fast, how far behind, and for how many capacity units. Every table
was printed by this command; no number was written by hand.
"
    );
    report::command("feed");
    println!(
        "A commit is one deposit with about 100 bytes of JSON. The projection has one read model with a row for each
account: for each event it reads the row, adds to it, and puts it back. Writers, the indexer, the projection and
the engine are in one process, and share its cores; there is neither a network nor a service in the way.
"
    );
}

fn flows(plan: &Plan, flows: &[Flow]) {
    println!(
        "## From a commit to the read model

On the store in memory, events are in the feed when they are stored. On the embedded engine an indexer follows
the table's stream: it looks for records every so often, and waits so long for more before it writes a page.

As fast as it goes: {clients} clients commit one event at a time, until the row of the last event can be read. The round of
median speed out of {rounds}, in which the lines took turns. They shared the machine with other work, so compare them
with each other.
",
        clients = plan.clients,
        rounds = plan.rounds,
    );
    let table = Table::new(1, &["", "events", "commits/s", "events/s, commit to row", "ratio"]);
    for flow in flows {
        let speed = &flow.speed;
        table.row(&[
            place(flow.indexing),
            count(speed.events as f64),
            number(speed.commits_per_second),
            number(speed.events_per_second),
            number(speed.events_per_second / speed.commits_per_second),
        ]);
    }
    drop(table);
    println!(
        "Under a steady load of {} commits a second for {} s. The lag is the time from the acknowledgement of a \
         commit to\nthat of the transaction that writes its row. The units are all that the indexer writes: pages, \
         summaries and\ncheckpoints.\n",
        plan.rate,
        plan.duration.as_secs_f64(),
    );
    let columns = ["", "commits/s", "lag p50, ms", "lag p99, ms", "events a page", "WCU an event"];
    let table = Table::new(1, &columns);
    for flow in flows {
        let (pages, units) = match &flow.effort {
            None => ("-".to_owned(), "-".to_owned()),
            Some(effort) => {
                let events = effort.events as f64;
                (number(events / effort.pages as f64), number(effort.usage.write_units / events))
            }
        };
        let lag = &flow.lag;
        let (p50, p99) = (milliseconds(lag.p50), milliseconds(lag.p99));
        table.row(&[place(flow.indexing), number(lag.commits_per_second), p50, p99, pages, units]);
    }
    drop(table);
    println!(
        "The longer the indexer waits, the more events share a page, and the less each of them costs. Only events of \
         one\nslice share pages: a feed with few events a second is cheaper with few slices.\n"
    );
}

fn place(indexing: Option<Indexing>) -> String {
    match indexing {
        None => "store in memory".to_owned(),
        Some(Indexing { slices, poll, linger }) => {
            let plural = if slices == 1 { "" } else { "s" };
            let (poll, linger) = (poll.as_millis(), linger.as_millis());
            format!("embedded engine, {slices} slice{plural}, looks every {poll} ms, waits {linger} ms")
        }
    }
}

fn rebuilds(rebuilds: &[Rebuild], on_engine: &OnEngine) {
    println!(
        "## Rebuilding

`Projector::rebuild`, on one thread in memory. The peak is the most bytes that were allocated at a time besides
what the store held before; the rows of the new build are in it, and do not grow with the events.
"
    );
    let table = Table::new(1, &["", "events", "events/s", "peak, KB"]);
    let row = |name: &str, events: u64, speed: f64, peak: String| {
        table.row(&[name.to_owned(), count(events as f64), number(speed), peak]);
    };
    for rebuild in rebuilds {
        let peak = number(rebuild.peak as f64 / 1024.0);
        row("store in memory", rebuild.events, rebuild.per_second, peak);
    }
    row("embedded engine", on_engine.events, on_engine.rebuilt_per_second, "-".to_owned());
    row(
        "embedded engine: indexing a table that has no feed",
        on_engine.events,
        on_engine.indexed_per_second,
        "-".to_owned(),
    );
    drop(table);
}

fn costs(plan: &Plan, costs: &[Cost]) {
    println!(
        "## Capacity units

For each of {} events, each the only one of its commit and of a stream whose id is a UUID. Counted below the SDK,
on the embedded engine. Writing is what comes on top of the commit itself; for the feed that includes the
summaries of its watermarks. Reading is once, with eventual consistency: by a consumer that takes every event, and
by one that takes none of them.

The index has a slice and a timestamp as its keys and all attributes in it, as Akka's plugin for DynamoDB documents
its own, and all events in one slice. A write unit costs as much as {READS_A_WRITE} read units: the last columns add up
both, in read units, for so many consumers that take every event. GetRecords on the table's stream, by which an
indexer learns of commits, is billed by the call, and a Lambda function does not pay for it.
",
        count(plan.counted as f64),
    );
    let consumers = [1.0, 3.0, 10.0];
    let mut columns: Vec<_> =
        ["", "WCU to write", "RCU to read", "RCU to pass over"].map(str::to_owned).to_vec();
    let plural = |consumers: f64| if consumers == 1.0 { "" } else { "s" };
    columns.extend(
        consumers.map(|consumers| format!("all, {} consumer{}", count(consumers), plural(consumers))),
    );
    let table = Table::new(1, &columns.iter().map(String::as_str).collect::<Vec<_>>());
    for cost in costs {
        let mut row = vec![cost.name.clone()];
        row.extend([cost.write_units, cost.read_units, cost.skip_units].map(units));
        row.extend(
            consumers.map(|consumers| units(READS_A_WRITE * cost.write_units + consumers * cost.read_units)),
        );
        table.row(&row);
    }
    drop(table);
    println!(
        "A consumer of the feed gets each commit by its key, which is half a unit each, where an index has all of \
         them side\nby side. With {} consumers that take every event, the index costs as much as the feed with pages of \
         16 commits.\nA scan finds events in no order, and cannot begin where the last one ended: it costs this for \
         every event that the\ntable has, each time.",
        count(break_even(&costs[1], &costs[3]).round()),
    );
}

/// With how many consumers a feed costs as much as an index.
fn break_even(feed: &Cost, index: &Cost) -> f64 {
    READS_A_WRITE * (index.write_units - feed.write_units) / (feed.read_units - index.read_units)
}

/// Small numbers, four digits of them.
fn units(value: f64) -> String {
    match value == 0.0 {
        true => "0".to_owned(),
        false => format!("{value:.4}"),
    }
}
