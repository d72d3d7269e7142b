use es_core::prelude::*;

#[event(nmae = "x", version = 0, skip_derive(Hash), 5)]
pub struct Placed;

fn main() {}
