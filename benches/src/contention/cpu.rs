//! The CPU time of a command that is alone, on a connector that responds immediately.

#[path = "../overhead/framework.rs"]
mod framework;
#[path = "../overhead/raw.rs"]
mod raw;

use cpu_time::ProcessTime;
use es_benches::Failure;
use es_benches::report::{Table, median, times};

use crate::Plan;
use crate::canned::Canned;

/// The number of events before the command.
const HISTORY: usize = 10;

/// The number of turns of each contender, after one for warm-up.
const TURNS: usize = 5;

pub fn print(plan: Plan) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let canned = Canned::new(HISTORY);
    let (mut raws, mut owns) = (Vec::new(), Vec::new());
    for _ in 0..=TURNS {
        raws.push(microseconds(plan, || runtime.block_on(raw::commands(&canned, plan.cpu_commands, 1))));
        owns.push(microseconds(plan, || {
            runtime.block_on(framework::commands(&canned, plan.cpu_commands, 1))
        }));
    }
    println!("### CPU time of a command after {HISTORY} events\n");
    let rows = Table::new(0, &["SDK loop, µs", "this framework, µs", "× SDK loop"]);
    let ratio = median(owns.iter().zip(&raws).skip(1).map(|(own, raw)| own / raw));
    let middle = |all: &[f64]| format!("{:.1}", median(all.iter().skip(1).copied()));
    rows.row(&[middle(&raws), middle(&owns), times(ratio)]);
    Ok(())
}

/// Returns the CPU time of a command.
fn microseconds(plan: Plan, commands: impl FnOnce()) -> f64 {
    let start = ProcessTime::now();
    commands();
    start.elapsed().as_secs_f64() * 1e6 / f64::from(plan.cpu_commands)
}
