//! The CPU time of a command, compared with a hand-written loop on the SDK.
//!
//! An engine would hide the difference, so both use a connector that responds immediately with prepared responses. Both
//! send the same requests: one Query and one conditional PutItem. They take turns, and the table shows the medians of
//! all turns, and the median of the ratios.
//!
//! With the arguments `only CONTENDER COMMANDS HISTORY EVENTS`, it only executes commands: `raw` or `framework`, on a
//! stream of so many events, with so many events each. `scripts/instructions` counts their instructions.

mod canned;
mod framework;
mod raw;

use std::time::Duration;

use cpu_time::ProcessTime;

use canned::Canned;
use es_benches::report::{self, Table, median, times};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let argument =
        |place, default| std::env::args().nth(place).and_then(|text| text.parse().ok()).unwrap_or(default);
    if std::env::args().nth(1).as_deref() == Some("only") {
        let (commands, events) = (argument(3, 2_000), argument(5, 1) as usize);
        let canned = Canned::new(argument(4, 0) as usize);
        return match std::env::args().nth(2).as_deref() {
            Some("raw") => raw::commands(&canned, commands, events).await,
            _ => framework::commands(&canned, commands, events).await,
        };
    }
    // The number of turns, and the number of commands in a turn.
    let (turns, commands) = (argument(1, 9).max(1), argument(2, 2_000));
    introduction(turns, commands);
    let columns = ["events before", "events", "raw SDK loop, µs", "this framework, µs", "× raw"];
    let table = Table::new(0, &columns);
    for (history, events) in [(0, 1), (0, 5), (10, 1), (10, 5), (100, 1)] {
        let canned = Canned::new(history);
        let (mut raw_times, mut own_times, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..=turns {
            let raw = time(commands, || raw::commands(&canned, commands, events)).await;
            let own = time(commands, || framework::commands(&canned, commands, events)).await;
            if turn > 0 {
                raw_times.push(raw);
                own_times.push(own);
                ratios.push(own / raw);
            }
        }
        table.row(&[
            history.to_string(),
            events.to_string(),
            format!("{:.1}", median(raw_times.into_iter())),
            format!("{:.1}", median(own_times.into_iter())),
            times(median(ratios.into_iter())),
        ]);
    }
}

/// Returns the CPU time of a command, in microseconds.
async fn time<F: Future<Output = ()>>(count: u32, commands: impl FnOnce() -> F) -> f64 {
    let start = ProcessTime::now();
    commands().await;
    let taken: Duration = start.elapsed();
    taken.as_secs_f64() * 1e6 / f64::from(count)
}

fn introduction(turns: u32, commands: u32) {
    if report::profile() == "lto" {
        println!("### With link-time optimization\n");
        report::command("overhead");
        println!("Built with `lto = \"fat\"` and `codegen-units = 1`.\n");
        return;
    }
    println!("## CPU time of a command\n");
    report::command("overhead");
    println!(
        "CPU time of a process with one client, on a connector that responds immediately with prepared responses: a stream with
the given number of events before the command, with payloads of 200 bytes. Both contenders send the same requests, one
`Query` and one conditional `PutItem`, so only the other work differs. They take turns, {turns} with {commands} commands
each. The figures are medians, and the median of the ratios of each pair.
"
    );
}
