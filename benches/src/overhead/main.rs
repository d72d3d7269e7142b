//! What the framework takes beside a hand-written loop on the SDK: CPU time for each command.
//!
//! An engine would hide it, so both run on a connector that answers at once, with answers made beforehand.
//! Both do the same requests: one Query, one conditional PutItem. They take turns, and the table shows the
//! medians of all turns, and the ratio of each turn's pair.

mod canned;
mod framework;
mod raw;

use std::time::Duration;

use cpu_time::ProcessTime;

use canned::Canned;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let argument =
        |place, default| std::env::args().nth(place).and_then(|text| text.parse().ok()).unwrap_or(default);
    // How often the two take turns, and how many commands a turn has.
    let (turns, commands) = (argument(1, 9).max(1), argument(2, 2_000));
    println!("| events in the stream | events of the command | raw SDK loop, µs | framework, µs | ratio |");
    println!("|---:|---:|---:|---:|---:|");
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
        println!(
            "| {history} | {events} | {:.1} | {:.1} | {:.3} |",
            median(&mut raw_times),
            median(&mut own_times),
            median(&mut ratios)
        );
    }
}

/// CPU time for each command, in microseconds.
async fn time<F: Future<Output = ()>>(count: u32, commands: impl FnOnce() -> F) -> f64 {
    let start = ProcessTime::now();
    commands().await;
    let taken: Duration = start.elapsed();
    taken.as_secs_f64() * 1e6 / f64::from(count)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
