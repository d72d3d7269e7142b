//! The peak memory of loads, and the allocations of commands.

use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure as counted};

use crate::canned::Canned;
use crate::contenders::{Contender, Kind};
use crate::plan::Plan;

/// The peak of the bytes that a load of a stream holds.
pub struct Peak {
    pub kind: Kind,
    pub events: u64,
    pub bytes: u64,
}

/// The allocations of commands.
pub struct Allocations {
    pub kind: Kind,
    /// The number of events that are loaded first.
    pub history: u64,
    /// The number of events in the command.
    pub events: u64,
    pub count: f64,
    pub bytes: f64,
}

pub struct Memory {
    pub peaks: Vec<Peak>,
    pub allocations: Vec<Allocations>,
}

pub fn measure(plan: &Plan) -> Memory {
    let kinds = [Kind::Raw, Kind::This];
    let mut peaks = Vec::new();
    for kind in kinds {
        for events in plan.memory {
            peaks.push(Peak { kind, events, bytes: load(kind, events).bytes_max });
        }
    }
    let commands = (plan.commands / 100).max(1);
    let mut allocations = Vec::new();
    for (history, events) in [(0, 1), (0, 5), (10, 1), (100, 1)] {
        for kind in kinds {
            let info = execute(kind, history, events, commands);
            let each = |sum: u64| sum as f64 / commands as f64;
            allocations.push(Allocations {
                kind,
                history,
                events,
                count: each(info.count_total),
                bytes: each(info.bytes_total),
            });
        }
    }
    Memory { peaks, allocations }
}

fn load(kind: Kind, events: u64) -> AllocationInfo {
    let (runtime, contender) = on_this_thread(kind, events);
    // The first load is not measured, because it fills caches of the client.
    let loaded = runtime.block_on(contender.load("a")).expect("loads");
    assert_eq!(loaded.deposits, events, "the whole stream is loaded");
    counted(|| drop(runtime.block_on(contender.load("a"))))
}

fn execute(kind: Kind, history: u64, events: u64, commands: u64) -> AllocationInfo {
    let (runtime, contender) = on_this_thread(kind, history);
    let command = || runtime.block_on(contender.execute("a", events)).expect("accepted");
    command();
    counted(|| (0..commands).for_each(|_| command()))
}

/// Allocations are counted by thread, so all work has to happen on this one.
fn on_this_thread(kind: Kind, events: u64) -> (tokio::runtime::Runtime, Arc<dyn Contender>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = Canned::new(events).client();
    let contender = runtime.block_on(kind.connect(&client, "canned")).expect("needs no table");
    (runtime, contender)
}
