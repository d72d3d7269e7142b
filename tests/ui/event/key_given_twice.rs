use es_core::prelude::*;

#[event(name = "OrderPlaced", name = "Placed")]
pub struct Placed;

fn main() {}
