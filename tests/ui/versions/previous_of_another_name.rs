use es_core::prelude::*;

#[event]
pub struct OldPlaced;

#[event(version = 2, previous = OldPlaced)]
pub struct Placed;

impl From<OldPlaced> for Placed {
    fn from(_: OldPlaced) -> Self {
        Self
    }
}

fn main() {}
