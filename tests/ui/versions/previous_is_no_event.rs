use es_core::prelude::*;

pub struct PlacedV1;

#[event(version = 2, previous = PlacedV1)]
pub struct Placed;

impl From<PlacedV1> for Placed {
    fn from(_: PlacedV1) -> Self {
        Self
    }
}

fn main() {}
