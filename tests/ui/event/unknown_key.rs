use es_core::prelude::*;

#[event(nmae = "OrderPlaced", versoin = 1, colour = "red")]
pub struct Placed;

fn main() {}
