//! The document: the method, and tables of the results.

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

/// The measurements on an engine.
pub struct OnEngine {
    pub speeds: Speeds,
    pub costs: Costs,
    pub loadings: Loadings,
}

/// The measurements that need no engine.
pub struct WithoutEngine {
    pub foldings: Vec<Folding>,
    pub memory: Memory,
    pub memory_speeds: Vec<MemorySpeed>,
}

pub fn introduction(plan: &Plan) {
    println!(
        "# Benchmarks

This framework compared with a hand-written loop on the SDK, cqrs-es 0.5.0 with dynamo-es 0.5.0, and
event-store-adapter-rs 5.2.0: the same domain and payloads, the same SDK client, the same engine, one run. Each table
was printed by the command above it; no number was entered by hand.

**The domain** is an account with deposits whose payloads have about 100 bytes of JSON. A command loads the account,
decides, and records one or five events.

**The contenders** are used as their documentation shows:

- *raw SDK loop*: one strongly consistent `Query` to load, and one `PutItem` with `attribute_not_exists` to record, with
  the table and the items of this framework. It verifies no commit ids, and has no metadata and no retries.
- *this framework*: `Repository::execute`; *snapshots* with `snapshot(every = 100)`, written in the background, with
  their time and units included; *adaptive snapshots* with the bare `snapshot`; *eventual reads* with
  `RepositoryBuilder::eventual_reads`, which decides on a state that may be stale, and detects that when it writes;
  *cache* with `RepositoryBuilder::cache`. The last three differ only in commands.
- *dynamo-es*: `CqrsFramework::execute` on a `PersistedEventStore`, without queries; *snapshots* with
  `new_snapshot_store` every 100 events. A commit is one `TransactWriteItems`. With snapshots, it reads events with
  eventual consistency, which takes half the units and may miss the newest events.
- *event-store-adapter-rs*: the repository of its example, which reads the newest snapshot, and then the events after it
  unless the snapshot is at the head; *snapshots* with `persist_event_and_snapshot` at every 100th event. Its API
  appends one event at a time, so five events are five transactions, and not atomic together. Its snapshot table has
  the index that its documentation asks for.

The tables are on demand and have no stream. The framework's `create_table` turns a stream on, which affects neither the
time nor the units of a command on AWS, but does on an engine on the same machine.

**Method.** The contenders take turns in {rounds} rounds, after a short one for warm-up. Each round starts with another
contender. On the embedded engine, each turn has a new engine. A client uses one account until it has {life} events, so
all contenders see streams of the same lengths. Commands per second and ratios are medians of the rounds; latencies are
those of all commands.

Both engines are in memory, and share the cores of the machine with the clients. There is neither a network nor a service
in between, so reading and decoding items and waiting for the engine have a larger share of the time than on AWS, and the
number of requests has a smaller one. The units are those that AWS bills.
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
            "DynamoDB Local does not report the write units of transactions as AWS documents them (two per KB of each \
             item).\nThe embedded engine does: use its units.\n"
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
        "### Summary\n\nCommands per second relative to the raw loop in the same rounds; average write and read units \
         of a command\nover the life of an account; time of a load relative to the raw loop.\n"
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
    println!("### Commands\n\nOn accounts of up to {} events, with one account per client.\n", plan.life);
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
        "### Cost of a command

Counted below the SDK: every request asks for the consumed units, and the responses are added up. The columns show the
first command on an account, then the average of all commands until it has {} events, including snapshots. Bytes are
the growth of the tables, by DynamoDB's rules for item sizes.
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

Loads by a repository that has not used the stream before, of streams with one event per command. In the rows with
snapshots, there is a snapshot at the stream's last event. Every state is compared with the expected one.
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

A repository on a store with prepared pages, compared with two loops of `serde_json::from_str`: over the same payloads,
and over the same pages. Each owns the data that it reads, and frees it. {} events at a time.
",
        number_of(plan.folded)
    );
    let table = Table::new(
        0,
        &[
            "events per commit",
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

The peak memory of a load, of a stream that is generated while it is read, in pages of about 1 MB as DynamoDB sends
them. This includes the text of the page.
"
    );
    let table = Table::new(1, &["", "events", "peak, KB"]);
    for peak in &measured.memory.peaks {
        let kilobytes = number(peak.bytes as f64 / 1024.0);
        table.row(&[peak.kind.name().to_owned(), number_of(peak.events), kilobytes]);
    }
    drop(table);
    println!("Allocations of a command, from the call to the response, including the SDK:\n");
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

    println!("### On the store in memory\n\nOne client, with accounts of up to {} events.\n", plan.life);
    let table = Table::new(1, &["", "events", "commands/s"]);
    for speed in &measured.memory_speeds {
        let name = if speed.cached { "with a cache" } else { "without a cache" };
        table.row(&[name.to_owned(), speed.events.to_string(), number(speed.per_second)]);
    }
}
