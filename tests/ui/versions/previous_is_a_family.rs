use es_core::prelude::*;

#[event]
pub enum OldOrderEvent {
    Placed,
    Paid,
}

#[event(version = 2, previous = OldOrderEvent)]
pub struct Placed;

impl From<OldOrderEvent> for Placed {
    fn from(_: OldOrderEvent) -> Self {
        Self
    }
}

fn main() {}
