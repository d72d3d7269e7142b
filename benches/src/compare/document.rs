//! The document: what was measured, how, and the tables.

use crate::commands::{Load, Speeds};
use crate::contenders::Kind;
use crate::costs::Costs;
use crate::engine::Engine;
use crate::folding::Folding;
use crate::loads::Loadings;
use crate::memory::Memory;
use crate::memory_store::MemorySpeed;
use crate::plan::Plan;
use crate::report::{self, Table, count, milliseconds, number, times};

/// What was measured on an engine.
pub struct OnEngine {
    pub speeds: Speeds,
    pub costs: Costs,
    pub loadings: Loadings,
}

/// What needs none.
pub struct WithoutEngine {
    pub foldings: Vec<Folding>,
    pub memory: Memory,
    pub memory_speeds: Vec<MemorySpeed>,
}

pub fn introduction(plan: &Plan) {
    println!(
        "# Benchmarks

This framework beside a hand-written loop on the SDK, cqrs-es 0.5.0 with dynamo-es 0.5.0, and
event-store-adapter-rs 5.2.0: the same domain and payloads, the same client of the SDK, the same engine, one
run. Every table below was printed by the command above it; no number was written by hand.

**The domain** is an account, and deposits whose payloads have about 100 bytes of JSON. A command loads the
account, decides, and records one event or five.

**The contenders**, each as its own documentation shows it:

- *raw SDK loop*: one strongly consistent `Query` to load, one `PutItem` with `attribute_not_exists` to
  record, on this framework's table and with its items. It has no commit ids to check, no metadata, no retries.
- *this framework*: `Repository::execute`; *snapshots* with `snapshot(every = 100)`, written in the
  background, their time and units included; *adaptive snapshots* with the bare `snapshot`; *eventual reads*
  with `RepositoryBuilder::eventual_reads`, which decides on a state that may be behind, and whose write tells;
  *cache* with `RepositoryBuilder::cache`. The last three differ in commands alone.
- *dynamo-es*: `CqrsFramework::execute` on a `PersistedEventStore`, without queries; *snapshots* with
  `new_snapshot_store` every 100 events. A commit is one `TransactWriteItems`. With snapshots it reads events
  with eventual consistency, which takes half the units and may miss the newest.
- *event-store-adapter-rs*: the repository of its example: the newest snapshot, then the events after it, which
  are not asked for when the snapshot is at the head; *snapshots* with `persist_event_and_snapshot` at every
  100th event. Its API appends one event at a time, so five events are five transactions, and not atomic
  together. Its snapshot table has the index that its documentation asks for.

The tables are on demand, and none has a stream: this framework's own `create_table` turns one on, which takes
neither time nor units of a command on AWS, but does in an engine on one machine.

**How.** The contenders take turns in {rounds} rounds, after a short one that warms up; each round starts with
another one, and on the embedded engine each turn has a new engine. A client works on an account of its own
until that has {life} events, so all see streams of the same lengths. Commands per second and ratios are medians
of the rounds; latencies are of all commands.

Both engines are in memory, and share the machine's cores with those who use them. There is neither a network
nor a service in the way, so reading items, decoding them and waiting for the engine weigh more here than on
AWS, and the number of requests weighs less. The units are what is billed.
",
        rounds = plan.rounds,
        life = plan.life,
    );
}

pub fn heading(engine: &Engine) {
    println!("## On {}\n", engine.name());
    report::command("compare");
    if !engine.is_embedded() {
        println!(
            "DynamoDB Local reports the write units of transactions by other rules than those that AWS documents, two \
             for\neach KB of each item. The embedded engine follows these: take the units from there.\n"
        );
    }
}

pub fn on_engine(plan: &Plan, measured: &OnEngine) {
    summary(measured);
    speeds(plan, &measured.speeds);
    costs(plan, &measured.costs);
    loadings(&measured.loadings);
}

fn summary(measured: &OnEngine) {
    println!(
        "### In short\n\nCommands per second against the raw loop of the same rounds; write and read units of \
         a command\non the average of an account's life; time to load against the raw loop.\n"
    );
    let loads: Vec<_> = measured.speeds.iter().map(|(load, _)| speed_heading(*load)).collect();
    let mut columns = vec!["".to_owned()];
    columns.extend(loads);
    columns.extend(measured.costs.iter().map(|(events, _)| format!("WCU, {}", of_events(*events))));
    columns.extend(measured.costs.iter().map(|(events, _)| format!("RCU, {}", of_events(*events))));
    columns.extend(measured.loadings.iter().map(|(events, _)| format!("load of {}", number_of(*events))));
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    let table = Table::new(1, &columns);
    for kind in Kind::ALL {
        let mut row = vec![kind.name().to_owned()];
        for (_, speeds) in &measured.speeds {
            row.push(cell(speeds, kind, |speed| times(speed.ratio)));
        }
        for (_, costs) in &measured.costs {
            row.push(cell(costs, kind, |cost| count(cost.average.write_units)));
        }
        for (_, costs) in &measured.costs {
            row.push(cell(costs, kind, |cost| count(cost.average.read_units)));
        }
        for (_, loadings) in &measured.loadings {
            row.push(cell(loadings, kind, |loading| match loading.wrong {
                None => times(loading.ratio),
                Some(_) => "wrong".to_owned(),
            }));
        }
        table.row(&row);
    }
}

fn cell<T>(all: &[(Kind, Result<T, String>)], kind: Kind, text: impl FnOnce(&T) -> String) -> String {
    match all.iter().find(|(other, _)| *other == kind) {
        None => "-".to_owned(),
        Some((_, Ok(value))) => text(value),
        Some((_, Err(_))) => "does not run".to_owned(),
    }
}

fn speed_heading(load: Load) -> String {
    let plural = if load.clients == 1 { "" } else { "s" };
    format!("{} client{plural}, {}", load.clients, of_events(load.events))
}

fn of_events(events: u64) -> String {
    format!("{events} event{}", if events == 1 { "" } else { "s" })
}

fn number_of(events: u64) -> String {
    count(events as f64)
}

fn speeds(plan: &Plan, speeds: &Speeds) {
    println!("### Commands\n\nOn accounts of up to {} events, each client on one of its own.\n", plan.life);
    let columns = ["", "clients", "events", "commands/s", "× raw", "p50, ms", "p99, ms"];
    let table = Table::new(1, &columns);
    for (load, speeds) in speeds {
        for (kind, speed) in speeds {
            let mut row = vec![kind.name().to_owned(), load.clients.to_string(), load.events.to_string()];
            match speed {
                Err(error) => table.without(&row, format_args!("does not run: {error}")),
                Ok(speed) => {
                    row.push(number(speed.per_second));
                    row.push(times(speed.ratio));
                    row.push(milliseconds(speed.p50));
                    row.push(milliseconds(speed.p99));
                    table.row(&row);
                }
            }
        }
    }
}

fn costs(plan: &Plan, costs: &Costs) {
    println!(
        "### What a command costs

Counted below the SDK: every request is made to ask for the units it consumes, and the answers are added up.
First the first command on an account, then the average of all until it has {} events, snapshots included.
Bytes are what the tables hold more afterwards, by DynamoDB's rules for the sizes of items.
",
        plan.life
    );
    let columns = [
        "",
        "events",
        "requests, first",
        "WCU, first",
        "RCU, first",
        "requests",
        "WCU",
        "RCU",
        "bytes stored",
    ];
    let table = Table::new(1, &columns);
    for (events, costs) in costs {
        for (kind, cost) in costs {
            let mut row = vec![kind.name().to_owned(), events.to_string()];
            match cost {
                Err(error) => table.without(&row, format_args!("does not run: {error}")),
                Ok(cost) => {
                    for usage in [cost.first, cost.average] {
                        row.push(count(usage.requests));
                        row.push(count(usage.write_units));
                        row.push(count(usage.read_units));
                    }
                    row.push(count(cost.bytes.round()));
                    table.row(&row);
                }
            }
        }
    }
}

fn loadings(loadings: &Loadings) {
    println!(
        "### Loads

By a repository that has not seen the stream before, of streams that were written with one event in each
command. The rows with snapshots have one of the stream's last event. Every state is compared with what it
should be.
"
    );
    let table = Table::new(1, &["", "events", "time, ms", "× raw", "requests", "RCU"]);
    for (events, loadings) in loadings {
        for (kind, loading) in loadings {
            let mut row = vec![kind.name().to_owned(), number_of(*events)];
            match loading {
                Err(error) => table.without(&row, format_args!("does not run: {error}")),
                Ok(loading) => {
                    match loading.wrong {
                        None => row.push(milliseconds(loading.time)),
                        Some(loaded) => {
                            row.push(format!("wrong: {} of {} events", number_of(loaded), number_of(*events)))
                        }
                    }
                    row.push(if loading.wrong.is_none() { times(loading.ratio) } else { "-".to_owned() });
                    row.push(count(loading.usage.requests));
                    row.push(count(loading.usage.read_units));
                    table.row(&row);
                }
            }
        }
    }
}

pub fn without_engine(plan: &Plan, measured: &WithoutEngine) {
    println!("## Without an engine\n");
    report::command("compare");
    println!(
        "### Decoding and folding

A repository on a store that has its pages ready, beside two loops of `serde_json::from_str`: over the same
payloads, and over the same pages. Each owns what it reads, and frees it. {} events at a time.
",
        number_of(plan.folded)
    );
    let table = Table::new(
        0,
        &[
            "events of a commit",
            "loop over payloads, events/s",
            "loop over pages, events/s",
            "framework, events/s",
            "× payloads",
            "× pages",
        ],
    );
    for folding in &measured.foldings {
        table.row(&[
            folding.events_of_a_commit.to_string(),
            number(folding.payloads),
            number(folding.pages),
            number(folding.framework),
            times(folding.to_payloads),
            times(folding.to_pages),
        ]);
    }
    drop(table);

    println!(
        "### Memory

The most bytes that a load holds at a time, of a stream that is made up while it is read, in pages of about
1 MB as DynamoDB sends them. The page's own text is included.
"
    );
    let table = Table::new(1, &["", "events", "peak, KB"]);
    for peak in &measured.memory.peaks {
        let kilobytes = number(peak.bytes as f64 / 1024.0);
        table.row(&[peak.kind.name().to_owned(), number_of(peak.events), kilobytes]);
    }
    drop(table);
    println!("What a command allocates, from the call to the answer, the SDK included:\n");
    let table = Table::new(1, &["", "events before", "events", "allocations", "bytes"]);
    for allocations in &measured.memory.allocations {
        table.row(&[
            allocations.kind.name().to_owned(),
            allocations.history.to_string(),
            allocations.events.to_string(),
            number(allocations.count),
            number(allocations.bytes),
        ]);
    }
    drop(table);

    println!("### On the store in memory\n\nOne client, accounts of up to {} events.\n", plan.life);
    let table = Table::new(1, &["", "events", "commands/s"]);
    for speed in &measured.memory_speeds {
        let name = if speed.cached { "with a cache" } else { "without a cache" };
        table.row(&[name.to_owned(), speed.events.to_string(), number(speed.per_second)]);
    }
}
