//! The output of `progress`, `parked`, and the operations.

use es_core::chrono::{DateTime, SecondsFormat, Utc};
use es_core::projection::{
    Delay, Failure, Parked, PendingTimeout, Progress, Registration, SliceProgress, SliceStatus,
};
use serde_json::{Value, json};

use crate::consumers::Kind;
use crate::failure::{Result, in_commands};
use crate::output::{Grid, Output, count, counted};

/// Reports that a change is made, which replaced builds of the projection are still stored, and how many rows were
/// deleted.
pub(super) fn done(output: Output, name: &str, change: &str, replaced: &[u32], rows: Option<u64>) -> Result {
    let mut value = json!({ "name": name, "done": change });
    if !replaced.is_empty() {
        value["replaced_builds"] = json!(replaced);
    }
    if let Some(rows) = rows {
        value["deleted_rows"] = json!(rows);
    }
    let rows = rows.map_or(String::new(), |rows| format!(" ({})", counted(rows, "row")));
    output.value(&value, || match replaced {
        [] => format!("done: {change}{rows}"),
        _ => format!(
            "done: {change}{rows}\nThe data of the replaced {} is stored until you delete it: `projection delete-replaced {name}`.",
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
pub(super) fn progress(
    output: Output,
    registration: &Registration,
    active: &Progress,
    rebuild: Option<&Progress>,
) -> Result {
    let name = &registration.name;
    let value = json!({
        "name": name, "paused": active.paused, "active": build(active), "rebuild": rebuild.map(build),
    });
    output.value(&value, || {
        let paused = if active.paused { ", paused" } else { "" };
        let mut text = format!("{name}, build {}{paused}\n{}", active.build, described(active));
        if let Some(rebuild) = rebuild {
            text.push_str(&format!("\nnew build {}\n{}", rebuild.build, described(rebuild)));
        }
        text + &advice(registration, [Some(active), rebuild].into_iter().flatten())
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
            let lines = parked
                .iter()
                .map(|one| format!("slice {}: {}\n  {}", one.slice, one.event, in_commands(&*one.error)));
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
        // A checkpoint that does not fit the feed is not an attempt.
        let attempts = if *attempts > 0 { format!("{attempts} in a row, ") } else { String::new() };
        let next = retry_at
            .map_or("no automatic retry".to_owned(), |next| format!("next attempt at {}", time(next)));
        text.push_str(&format!(
            "slice {slice} stopped at {} ({attempts}{next})\n  {}\n",
            time(*at),
            in_commands(failure.to_string())
        ));
    }
    for (slice, delay) in progress.delayed() {
        let Delay { since, attempts, next_attempt, .. } = delay;
        text.push_str(&format!(
            "slice {slice} is delayed since {} ({}, next at {})\n  {}\n",
            time(*since),
            counted((*attempts).into(), "attempt"),
            time(*next_attempt),
            in_commands(delay.to_string())
        ));
    }
    for slice in progress.slices.iter().filter(|slice| slice.erased > 0) {
        let erased = counted(slice.erased, "event");
        text.push_str(&format!(
            "slice {}: passed over {erased} of deleted or archived streams\n",
            slice.slice
        ));
    }
    for (slice, event) in progress.passed_over() {
        text.push_str(&format!("slice {slice}: passed over by code that does not list it: {event}\n"));
    }
    text
}

/// Returns which commands help, one on each line, if slices have stopped or events were parked or passed over.
fn advice<'a>(registration: &Registration, builds: impl Iterator<Item = &'a Progress>) -> String {
    let (name, kind) = (&registration.name, Kind::of(registration).name());
    let (mut stopped, mut parked, mut passed_over) = (false, false, false);
    for progress in builds {
        stopped |= progress.stopped().any(|(_, failure)| failure.event.is_some());
        parked |= progress.slices.iter().any(|slice| slice.parked > 0);
        passed_over |= progress.passed_over().next().is_some();
    }
    let mut lines = String::new();
    if stopped {
        lines.push_str(&format!(
            "\n`{kind} retry {name}` handles the event again after a fix; `park` and `skip` go on without it"
        ));
    }
    if parked {
        lines.push_str(&format!("\n`{kind} parked {name}` shows the parked events, and why they failed"));
    }
    if passed_over {
        let remedy = match registration.is_process {
            true => "issue the commands of the events that were passed over".to_owned(),
            false => format!("`projection rebuild {name}` handles the events that were passed over"),
        };
        lines.push_str(&format!("\n{remedy}; `{kind} dismiss-passed-over {name}` forgets them"));
    }
    lines
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
