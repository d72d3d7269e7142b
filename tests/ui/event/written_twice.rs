use es_core::prelude::*;

#[event(name = "OrderPlaced")]
#[event(version = 1)]
pub struct Placed;

fn main() {}
