//! The output of `progress`, `parked`, and the operations.

use es_core::chrono::{DateTime, SecondsFormat, Utc};
use es_core::projection::{Delay, Failure, Parked, PendingTimeout, Progress, SliceProgress, SliceStatus};
use serde_json::{Value, json};

use crate::failure::Result;
use crate::output::{Grid, Output, count};

/// Reports that a change is made, and which replaced builds of the projection are still stored.
pub(super) fn done(output: Output, name: &str, change: &str, replaced: &[u32]) -> Result {
    let mut value = json!({ "name": name, "done": change });
    if !replaced.is_empty() {
        value["replaced_builds"] = json!(replaced);
    }
    output.value(&value, || match replaced {
        [] => format!("done: {change}"),
        _ => format!(
            "done: {change}\nThe data of the replaced {} is stored until you delete it: `projection delete-replaced {name}`.",
            builds(replaced)
        ),
    })
}

/// Names builds, such as `build 1` or `builds 1, 2`.
pub(super) fn builds(numbers: &[u32]) -> String {
    let listed: Vec<_> = numbers.iter().map(u32::to_string).collect();
    format!("build{} {}", if numbers.len() == 1 { "" } else { "s" }, listed.join(", "))
}

/// Prints the progress of the active build and, if there is one, of the new build.
pub(super) fn progress(output: Output, name: &str, active: &Progress, rebuild: Option<&Progress>) -> Result {
    let value = json!({
        "name": name, "paused": active.paused, "active": build(active), "rebuild": rebuild.map(build),
    });
    output.value(&value, || {
        let paused = if active.paused { ", paused" } else { "" };
        let mut text = format!("{name}, build {}{paused}\n{}", active.build, described(active));
        if let Some(rebuild) = rebuild {
            text.push_str(&format!("\nnew build {}\n{}", rebuild.build, described(rebuild)));
        }
        text
    })
}

/// Prints parked events and timeouts.
pub(super) fn parked(output: Output, parked: &[Parked]) -> Result {
    let values: Vec<_> = parked
        .iter()
        .map(|one| {
            json!({
                "build": one.build, "slice": one.slice.get(), "event": one.event, "error": one.error,
            })
        })
        .collect();
    output.value(&values, || match parked {
        [] => "nothing is parked".to_owned(),
        _ => {
            let lines =
                parked.iter().map(|one| format!("slice {}: {}\n  {}", one.slice, one.event, one.error));
            lines.collect::<Vec<_>>().join("\n")
        }
    })
}

fn build(progress: &Progress) -> Value {
    let slice = |slice: &SliceProgress| {
        let mut value = json!({
            "slice": slice.slice.get(), "position": slice.position.get(), "end": slice.end.get(),
            "parked": slice.parked, "skipped": slice.skipped, "erased": slice.erased, "unchecked": slice.unchecked,
            "passed_over": slice.passed_over, "status": status(&slice.status),
        });
        match &slice.status {
            SliceStatus::Stopped(failure) => value["failure"] = json!(failure),
            SliceStatus::Delayed(delay) => value["delay"] = json!(delay),
            _ => {}
        }
        value
    };
    json!({
        "build": progress.build, "lag": progress.lag(), "slices": progress.slices.iter().map(slice).collect::<Vec<_>>(),
    })
}

fn status(status: &SliceStatus) -> &'static str {
    match status {
        SliceStatus::Running => "running",
        SliceStatus::Delayed(_) => "delayed",
        SliceStatus::Waiting => "waiting",
        SliceStatus::Finished => "finished",
        SliceStatus::Stopped(_) => "stopped",
        _ => "unknown",
    }
}

/// Prints the pending timeouts of a process.
pub(super) fn timeouts(output: Output, timeouts: &[PendingTimeout]) -> Result {
    let value = |PendingTimeout { due, instance, name, cause, slice, .. }: &PendingTimeout| {
        json!({
            "due": due, "event": name, "instance": instance.as_str(), "cause": cause.to_string(), "slice": slice.get(),
        })
    };
    output.value(&timeouts.iter().map(value).collect::<Vec<_>>(), || {
        if timeouts.is_empty() {
            return "no timeout is pending".to_owned();
        }
        let mut grid = Grid::new(["due", "event", "instance", ">slice"]);
        for PendingTimeout { due, instance, name, slice, .. } in timeouts {
            grid.row([time(*due), name.clone(), instance.to_string(), slice.to_string()]);
        }
        grid.to_string()
    })
}

/// Returns a table of the slices, and below it the reasons why slices make no progress.
fn described(progress: &Progress) -> String {
    let mut grid = Grid::new([">slice", ">position", ">end", ">lag", ">parked", ">skipped", "status"]);
    for SliceProgress { slice, position, end, parked, skipped, status: state, .. } in &progress.slices {
        let lag = end.since(*position);
        let numbers = [position.get(), end.get(), lag, *parked, *skipped].map(count);
        let [position, end, lag, parked, skipped] = numbers;
        grid.row([slice.to_string(), position, end, lag, parked, skipped, status(state).to_owned()]);
    }
    let mut text = grid.to_string();
    for (slice, failure) in progress.stopped() {
        let Failure { at, attempts, retry_at, .. } = failure;
        let next = retry_at
            .map_or("no automatic retry".to_owned(), |next| format!("next attempt at {}", time(next)));
        text.push_str(&format!(
            "slice {slice} stopped at {} ({attempts} in a row, {next})\n  {failure}\n",
            time(*at)
        ));
    }
    for (slice, delay) in progress.delayed() {
        let Delay { since, attempts, next_attempt, .. } = delay;
        text.push_str(&format!(
            "slice {slice} is delayed since {} ({attempts} attempts, next at {})\n  {delay}\n",
            time(*since),
            time(*next_attempt)
        ));
    }
    for slice in progress.slices.iter().filter(|slice| slice.erased > 0) {
        let erased = count(slice.erased);
        text.push_str(&format!(
            "slice {}: passed over {erased} events of deleted or archived streams\n",
            slice.slice
        ));
    }
    for (slice, event) in progress.passed_over() {
        text.push_str(&format!("slice {slice}: {event}\n"));
    }
    text
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
