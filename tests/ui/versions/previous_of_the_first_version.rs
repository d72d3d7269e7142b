use es_core::prelude::*;

#[event]
pub struct PlacedV1;

#[event(previous = PlacedV1)]
pub struct Placed;

fn main() {}
