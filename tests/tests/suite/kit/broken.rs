//! Aggregates that each break one law.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use es_core::prelude::*;
use es_core::serde::{Deserialize, Serialize};
use es_core::testing::AnyCommand;
use proptest::prelude::*;

/// The command of all these aggregates.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) by: u64,
}

pub(crate) fn steps<A: Handle<Step, Error = Infallible>>() -> impl Strategy<Value = AnyCommand<A>> {
    (1..9_u64).prop_map(|by| AnyCommand::new(Step { by }))
}

#[event]
pub(crate) struct Stepped {
    pub(crate) by: u64,
}

/// Omits a field from its snapshots.
#[derive(Aggregate, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(name = "forgetful", id = u8, events(Stepped), snapshot)]
pub(crate) struct Forgetful {
    #[serde(skip)]
    sum: u64,
}

impl Apply<Stepped> for Forgetful {
    fn apply(&mut self, event: &Stepped) {
        self.sum += event.by;
    }
}

impl Handle<Step> for Forgetful {
    type Error = Infallible;

    fn handle(&self, command: &Step, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Stepped { by: command.by }.into())
    }
}

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Decides on data outside of its state.
#[derive(Aggregate, Debug, Default, PartialEq)]
#[aggregate(name = "random", id = u8, events(Stepped))]
pub(crate) struct Random;

impl Apply<Stepped> for Random {
    fn apply(&mut self, _: &Stepped) {}
}

impl Handle<Step> for Random {
    type Error = Infallible;

    fn handle(&self, _: &Step, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Stepped { by: CALLS.fetch_add(1, Ordering::SeqCst) }.into())
    }
}

/// Changes its state in a handler.
#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "secretive", id = u8, events(Stepped))]
pub(crate) struct Secretive {
    steps: AtomicU64,
}

impl PartialEq for Secretive {
    fn eq(&self, other: &Self) -> bool {
        self.steps.load(Ordering::SeqCst) == other.steps.load(Ordering::SeqCst)
    }
}

impl Apply<Stepped> for Secretive {
    fn apply(&mut self, _: &Stepped) {}
}

impl Handle<Step> for Secretive {
    type Error = Infallible;

    fn handle(&self, _: &Step, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        Ok(Events::none())
    }
}

#[event]
pub(crate) struct Truncated {
    #[serde(skip)]
    pub(crate) by: u64,
}

/// Has an event that is not stored completely.
#[derive(Aggregate, Debug, Default, PartialEq)]
#[aggregate(name = "lossy", id = u8, events(Truncated))]
pub(crate) struct Lossy;

impl Apply<Truncated> for Lossy {
    fn apply(&mut self, _: &Truncated) {}
}

impl Handle<Step> for Lossy {
    type Error = Infallible;

    fn handle(&self, command: &Step, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Truncated { by: command.by }.into())
    }
}

static APPLIED: AtomicU64 = AtomicU64::new(0);

/// Applies an event differently each time.
#[derive(Aggregate, Debug, Default, PartialEq)]
#[aggregate(name = "moody", id = u8, events(Stepped))]
pub(crate) struct Moody {
    mood: u64,
}

impl Apply<Stepped> for Moody {
    fn apply(&mut self, _: &Stepped) {
        self.mood = APPLIED.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handle<Step> for Moody {
    type Error = Infallible;

    fn handle(&self, command: &Step, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok(Stepped { by: command.by }.into())
    }
}
