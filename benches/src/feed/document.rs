//! The document: the method, and tables of the results.

use crate::costs::Cost;
use crate::flow::Flow;
use crate::idle::Idle;
use crate::place::Indexing;
use crate::plan::Plan;
use crate::rebuild::{OnEngine, Rebuild};
use crate::report::{self, Table, count, milliseconds, number};

/// The price of a write unit in read units, for on-demand and provisioned capacity.
const READS_A_WRITE: f64 = 5.0;

pub struct Measured {
    pub flows: Vec<Flow>,
    pub rebuilds: Vec<Rebuild>,
    pub idle: Idle,
    pub rebuilt_on_engine: OnEngine,
    pub costs: Vec<Cost>,
}

pub fn print(plan: &Plan, measured: &Measured) {
    introduction();
    flows(plan, &measured.flows);
    rebuilds(&measured.rebuilds, &measured.rebuilt_on_engine);
    costs(plan, &measured.costs);
    idle(&measured.idle);
}

fn introduction() {
    println!(
        "# Benchmarks of the feed

From a commit to the row of a read model: throughput, lag, and capacity units. Each table was printed by this command; no
number was entered by hand.
"
    );
    report::command("feed");
    println!(
        "A commit is one deposit with about 100 bytes of JSON. The projection has one read model with a row per account: for each
event, it reads the row, adds the amount, and puts the row back. Writers, the indexer, the projection, and the engine are
in one process, and share its cores; there is neither a network nor a service in between.
"
    );
}

fn flows(plan: &Plan, flows: &[Flow]) {
    println!(
        "## From a commit to the read model

On the store in memory, events are in the feed as soon as they are stored. On the embedded engine, an indexer learns of
commits from the store that writes them. If it has another store, as in another process, it polls the outbox at the given
interval, or the table's stream, as on DynamoDB. It lingers for the given time before it writes a page. The engine's stream
gets slower with every record, so the throughput with it says nothing about DynamoDB.

Maximum throughput: {clients} clients commit one event at a time, until the row of the last event can be read. The
configurations take turns; the figures are from the round with the median speed out of {rounds}. The machine was shared
with other work, so compare the lines only with each other.
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
        "Steady load: {} commits per second for {} s. The lag is the time from the response to a commit to the \
         response to the\ntransaction that writes its row. The units are those of all writes of the indexer: pages, \
         summaries, and checkpoints.\n",
        plan.rate,
        plan.duration.as_secs_f64(),
    );
    let columns = ["", "commits/s", "lag p50, ms", "lag p99, ms", "events per page", "WCU per event"];
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
        "The longer the indexer waits, the more events share a page, and the less each event costs. Only events of one \
         slice\nshare pages: a feed with few events per second is cheaper with few slices.\n"
    );
}

fn place(indexing: Option<Indexing>) -> String {
    match indexing {
        None => "store in memory".to_owned(),
        Some(Indexing { slices, poll, linger, is_beside, has_stream }) => {
            let plural = if slices == 1 { "" } else { "s" };
            let (poll, linger) = (poll.as_millis(), linger.as_millis());
            let source = if has_stream { ", with a stream" } else { "" };
            let place = if is_beside { "" } else { ", as in another process" };
            format!(
                "embedded engine{source}, {slices} slice{plural}, poll {poll} ms, linger {linger} ms{place}"
            )
        }
    }
}

fn rebuilds(rebuilds: &[Rebuild], on_engine: &OnEngine) {
    println!(
        "## Rebuilding

`Projector::rebuild`, on one thread in memory. The peak is the peak memory in addition to that of the store before the
rebuild. It includes the rows of the new build, whose number does not depend on the number of events.
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

Units per event, for {} events, each the only event of its commit and of a stream whose id is a UUID. Counted below the
SDK, on the embedded engine. Writes are those in addition to the commit; for the feed, they include the summaries of its
watermarks. Reads are eventually consistent, once by a consumer that processes every event, and once by a consumer that
passes over all of them.

The index has a slice and a timestamp as its keys and contains all attributes, as documented for Akka's DynamoDB plugin,
with all events in one slice. A write unit costs as much as {READS_A_WRITE} read units: the last columns add up both, in
read units, for the given number of consumers that process every event. GetRecords on the table's stream, from which an
indexer learns of commits, is billed per call, and is free for Lambda functions.
",
        count(plan.counted as f64),
    );
    let consumers = [1.0, 3.0, 10.0];
    let mut columns: Vec<_> =
        ["", "WCU to write", "RCU to copy", "RCU to read", "RCU to skip"].map(str::to_owned).to_vec();
    let plural = |consumers: f64| if consumers == 1.0 { "" } else { "s" };
    columns.extend(
        consumers.map(|consumers| format!("all, {} consumer{}", count(consumers), plural(consumers))),
    );
    let table = Table::new(1, &columns.iter().map(String::as_str).collect::<Vec<_>>());
    for cost in costs {
        let mut row = vec![cost.name.clone()];
        row.extend([cost.write_units, cost.copy_units, cost.read_units, cost.skip_units].map(units));
        row.extend(consumers.map(|consumers| units(cost.of_index() + consumers * cost.read_units)));
        table.row(&row);
    }
    drop(table);
    println!(
        "Without copies, a consumer of the feed gets each commit by its key, for half a unit each, while an index stores \
         them next\nto each other. With {} consumers that process every event, the index costs as much as the feed with \
         pages of 16 commits.\nCopies (`DynamoStore::builder().copy_commits({})`) cost less than references with {} \
         consumers or more, in pages of 64\ncommits. A scan returns events in no order and cannot continue where the \
         previous one ended: it has this cost for every\nevent in the table, each time.",
        count(break_even(&costs[1], &costs[5]).round()),
        crate::costs::MAX_COPY,
        count(break_even(&costs[2], &costs[4]).ceil()),
    );
}

impl Cost {
    /// Returns the cost of indexing an event in read units.
    fn of_index(&self) -> f64 {
        READS_A_WRITE * self.write_units + self.copy_units
    }
}

/// The prices of a million write units, read units, and reads of a stream, in dollars, on demand in us-east-1
/// (<https://aws.amazon.com/dynamodb/pricing/on-demand/>).
const PRICES: [f64; 3] = [0.625, 0.125, 0.2];

/// The number of hours in a month.
const MONTH: f64 = 730.0;

fn idle(idle: &Idle) {
    println!(
        "
## While nothing happens

Requests of an indexer and a projector with default settings in one process, in the second hour after the last commit, with
one slice and one shard. The price is that of a month on demand in us-east-1: a million write units for {:.3}, a million
read units for {:.3}, and a million `GetRecords` for {:.2} dollars
([prices](https://aws.amazon.com/dynamodb/pricing/on-demand/)), of which 2.5 million per month are free.
",
        PRICES[0], PRICES[1], PRICES[2],
    );
    let (table, stream) = (&idle.table, &idle.stream);
    let used = [table.write_units, table.read_units, idle.records.requests];
    let dollars: f64 = used.iter().zip(PRICES).map(|(used, price)| used * MONTH * price / 1e6).sum();
    let columns =
        ["requests to the table", "to the stream", "all", "WCU", "RCU", "GetRecords", "dollars per month"];
    Table::new(0, &columns).row(&[
        count(table.requests),
        count(stream.requests),
        count(table.requests + stream.requests),
        count(table.write_units),
        number(table.read_units),
        count(idle.records.requests),
        format!("{dollars:.2}"),
    ]);
}

/// Returns the number of consumers with which one way to read all events costs as much as another one, which costs more
/// to write and less to read.
fn break_even(one: &Cost, other: &Cost) -> f64 {
    (other.of_index() - one.of_index()) / (one.read_units - other.read_units)
}

/// Formats a small number with four digits.
fn units(value: f64) -> String {
    match value == 0.0 {
        true => "0".to_owned(),
        false => format!("{value:.4}"),
    }
}
