//! The document: the method, and tables of the results.

use std::time::Duration;

use crate::commands::{Load, Speed, Speeds};
use crate::contenders::Kind;
use crate::costs::{Results, RoundTrips, Size};
use crate::feeds::Flows;
use crate::interleavings::Deliveries;
use crate::loads::Loadings;
use crate::plan::Plan;
use crate::report::{Table, count, milliseconds, number, profile, times};

pub struct Measured {
    pub speeds: Speeds,
    pub round_trips: Results<RoundTrips>,
    pub sizes: Results<Size>,
    pub loadings: Loadings,
    pub feeds: Flows,
    pub deliveries: Results<Deliveries>,
}

pub fn print(plan: &Plan, server: &str, measured: &Measured) {
    introduction(plan, server);
    summary(measured);
    speeds(&measured.speeds);
    round_trips(&measured.round_trips);
    sizes(plan, &measured.sizes);
    loadings(&measured.loadings);
    feeds(plan, &measured.feeds);
    deliveries(plan, &measured.deliveries);
}

fn introduction(plan: &Plan, server: &str) {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    println!(
        "# Benchmarks on PostgreSQL

This framework on PostgreSQL compared with a hand-written loop on sqlx 0.9, cqrs-es 0.5.0 with postgres-es 0.5.0,
eventcore 2.1.0 with eventcore-postgres 2.1.0, and disintegrate 4.0.0 with disintegrate-postgres 4.0.1, which use sqlx
0.8: the same domain and payloads, the same server, one run. Each number was printed by this command; none was entered
by hand.

```console
$ just bench-postgres{arguments}     # {profile}, on {cores} cores
```

{server}.

**The domain** is an account with deposits whose payloads have about 100 bytes of JSON. A command loads the account,
decides, and records one or five events. No contender has snapshots.

**The contenders** are used as their documentation shows, each in a database of the same server:

- *raw sqlx loop*: one `SELECT` to load, and one `INSERT … ON CONFLICT DO NOTHING` to record, on the tables of this
  framework. It has no metadata and no retries.
- *this framework*: `Repository::execute`; *cache* with `RepositoryBuilder::cache`; *another process*: the subscription
  has another `PostgresStore`, which is not woken by the appends.
- *postgres-es*: `CqrsFramework::execute` on a `PersistedEventStore`. It has no subscription: the command calls the
  queries after it has committed.
- *eventcore-postgres*: `execute` and `run_projection`; *transactional projections* with `PostgresProjectionSource`,
  whose migration adds a trigger to the table of events, and `run_transactional_projection`.
- *disintegrate-postgres*: a decision maker without snapshots, and a `PgEventListener` with notifications, which also
  polls every 50 ms. Decisions that fail because of others are repeated at once. It needs PostgreSQL 16: here, one of
  its functions has a decimal literal instead of a hexadecimal one, so that it also runs on older servers.

All pools have {connections} connections and do not test them before use, which is not the default of sqlx and saves a
round trip. There is no TLS, and no network between the clients and the server, which share the cores of the machine.
",
        arguments = arguments.iter().map(|argument| format!(" {argument}")).collect::<String>(),
        profile = profile(),
        cores = std::thread::available_parallelism().map_or(1, usize::from),
        connections = crate::server::CONNECTIONS,
    );
    if !plan.is_measurement {
        println!("**This run only checks that everything works: its times are not measurements.**\n");
    }
    println!(
        "**Method.** The contenders take turns in {rounds}, after a short one for warm-up. Each round starts with another
contender. A client uses one account until it has {life} events, so all contenders see streams of the same lengths.
Commands per second and ratios are medians of the rounds; latencies are those of all commands.
",
        rounds = plural(plan.rounds as u64, "round"),
        life = plan.life,
    );
}

/// The best peer's commands per second.
fn best_peer(speeds: &[(Kind, Result<Speed, String>)]) -> Option<(Kind, f64)> {
    let peers = speeds.iter().filter(|(kind, _)| kind.is_peer());
    let peers = peers.filter_map(|(kind, speed)| Some((*kind, speed.as_ref().ok()?.per_second)));
    peers.max_by(|one, other| one.1.total_cmp(&other.1))
}

fn speed_of(speeds: &[(Kind, Result<Speed, String>)], kind: Kind) -> Option<&Speed> {
    speeds.iter().find(|(other, _)| *other == kind)?.1.as_ref().ok()
}

fn summary(measured: &Measured) {
    println!("## Summary\n");
    println!(
        "The last columns are those of this framework with a cache, and of the raw loop, which is the limit without one.\n"
    );
    let table = Table::new(2, &["figure", "target", "measured", "with a cache", "raw loop"]);
    for (load, speeds) in &measured.speeds {
        let own = [Kind::This, Kind::Cached, Kind::Raw].map(|kind| speed_of(speeds, kind));
        let row = |figure: String, target: String, value: &dyn Fn(&Speed) -> f64| {
            let values = own.map(|speed| speed.map_or_else(String::new, |speed| times(value(speed))));
            table.row(&[vec![figure, target], values.to_vec()].concat());
        };
        let load_text = text(*load);
        let figure = format!("time per command beside the raw loop, {load_text}");
        row(figure, "at most 1.1 times".to_owned(), &|speed| speed.ratio);
        if let Some((peer, per_second)) = best_peer(speeds) {
            let figure = format!("commands per second beside the best peer ({peer}), {load_text}");
            let target = format!("at least {} times", if load.events == 1 { 2 } else { 5 });
            row(figure, target, &|speed| speed.per_second / per_second);
        }
    }
    let other = |figure: String, target: &str, value: String| {
        table.row(&[figure, target.to_owned(), value, String::new(), String::new()]);
    };
    let this = measured.round_trips.iter().find(|(kind, _)| *kind == Kind::This);
    if let Some((_, Ok(trips))) = this {
        let append = trips.one.saturating_sub(trips.load);
        other("round trips of an append".to_owned(), "1", append.to_string());
        other("round trips of a cold command".to_owned(), "2", trips.one.to_string());
    }
    for (kind, poll, flow) in &measured.feeds {
        if let (true, Ok(flow)) = (kind.is_this(), flow) {
            let figure = format!("lag of the feed of {}, p50", subscriber(*kind, *poll));
            other(figure, "at most 50 ms", format!("{} ms", milliseconds(flow.p50)));
        }
    }
}

fn subscriber(kind: Kind, poll: Option<Duration>) -> String {
    match poll {
        Some(interval) => format!("{kind}, polls every {} ms", interval.as_millis()),
        None => kind.to_string(),
    }
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn text(load: Load) -> String {
    format!("{}, {}", plural(load.clients as u64, "client"), plural(load.events, "event"))
}

fn speeds(speeds: &Speeds) {
    println!("## Commands\n");
    for (load, speeds) in speeds {
        println!("**{}** per command:\n", text(*load));
        let columns = ["contender", "commands/s", "time per command / raw loop", "p50 in ms", "p99 in ms"];
        let table = Table::new(1, &columns);
        for (kind, speed) in speeds {
            match speed {
                Ok(speed) => table.row(&[
                    kind.to_string(),
                    number(speed.per_second),
                    times(speed.ratio),
                    milliseconds(speed.p50),
                    milliseconds(speed.p99),
                ]),
                Err(reason) => table.without(&[kind.to_string()], reason),
            }
        }
    }
}

fn round_trips(all: &Results<RoundTrips>) {
    println!(
        "## Round trips

A proxy counts the requests that the server answers with `ReadyForQuery`, on a connection on which the statements are
prepared. The test of a connection after its use, which sqlx sends in the background, does not count. Each number is the
median of 21: while PostgreSQL has not cached the plan of an append, in its first executions on a connection, this framework
verifies it by another round trip.
"
    );
    let table = Table::new(1, &["contender", "load", "command with 1 event", "command with 5 events"]);
    for (kind, trips) in all {
        match trips {
            Ok(RoundTrips { load, one, five }) => {
                table.row(&[kind.to_string(), load.to_string(), one.to_string(), five.to_string()]);
            }
            Err(reason) => table.without(&[kind.to_string()], reason),
        }
    }
}

fn sizes(plan: &Plan, all: &Results<Size>) {
    println!(
        "## Stored bytes

The bytes by which all tables and indexes have grown, per event, after {} events. An account has ten commands.
",
        count(plan.sized_events as f64)
    );
    let table = Table::new(1, &["contender", "bytes per event, 1 event per command", "5 events per command"]);
    for (kind, size) in all {
        match size {
            Ok(size) => table.row(&[kind.to_string(), number(size.one), number(size.five)]),
            Err(reason) => table.without(&[kind.to_string()], reason),
        }
    }
}

fn loadings(loadings: &Loadings) {
    println!(
        "## Loads\n\nThe median time to load an account whose events were recorded by separate commands.\n"
    );
    let table = Table::new(1, &["contender", "events", "time in ms", "time / raw loop"]);
    for (events, loadings) in loadings {
        for (kind, loading) in loadings {
            match loading {
                Ok(loading) => table.row(&[
                    kind.to_string(),
                    count(*events as f64),
                    milliseconds(loading.time),
                    times(loading.ratio),
                ]),
                Err(reason) => table.without(&[kind.to_string(), count(*events as f64)], reason),
            }
        }
    }
}

fn feeds(plan: &Plan, all: &Flows) {
    println!(
        "## The feed

The events per second of a subscription that starts {} events behind, and the time from the response to a command until
the handler gets its event, for {} commands at random intervals of 1 to 30 ms. All settings are defaults, unless an
interval is given. The handler only counts.
",
        count(plan.feed_events as f64),
        count(plan.lag_events as f64)
    );
    let table = Table::new(1, &["contender", "events/s", "lag p50 in ms", "lag p99 in ms"]);
    for (kind, poll, flow) in all {
        match flow {
            Ok(flow) => table.row(&[
                subscriber(*kind, *poll),
                number(flow.per_second),
                milliseconds(flow.p50),
                milliseconds(flow.p99),
            ]),
            Err(reason) => table.without(&[subscriber(*kind, *poll)], reason),
        }
    }
}

fn deliveries(plan: &Plan, all: &Results<Deliveries>) {
    println!(
        "## Skipped and repeated events

A subscription runs during {} seeded interleavings of 3 writers whose transactions a proxy holds open before their
`COMMIT`, other appends that overtake them, and a long transaction that does nothing. Held transactions are committed,
killed before their `COMMIT`, or committed without a response. Afterwards, the stored events are compared with those
that the subscription has delivered. An event counts as skipped if the subscription then delivers nothing for 3 s. A
burst is 8 concurrent writers without a proxy.

The subscriptions poll every 2 ms. Their processes are not killed. This framework holds commands with an idempotency
key, because a single append has no `COMMIT`. *blocked* counts appends that waited for a lock of a held transaction. The
table reports observations: 0 is no proof.
",
        count(plan.interleavings as f64)
    );
    let columns = [
        "contender",
        "stored events",
        "held",
        "killed",
        "without response",
        "blocked",
        "skipped",
        "repeated",
        "burst: stored",
        "skipped",
        "repeated",
    ];
    let table = Table::new(1, &columns);
    for (kind, deliveries) in all {
        match deliveries {
            Ok(counts) => {
                let numbers = [
                    counts.stored,
                    counts.held,
                    counts.killed,
                    counts.unanswered,
                    counts.blocked,
                    counts.skipped,
                    counts.repeated,
                    counts.burst_stored,
                    counts.burst_skipped,
                    counts.burst_repeated,
                ];
                let cells = numbers.iter().map(|&number| count(number as f64));
                table.row(&[kind.to_string()].into_iter().chain(cells).collect::<Vec<_>>());
            }
            Err(reason) => table.without(&[kind.to_string()], reason),
        }
    }
}
