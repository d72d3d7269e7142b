use es_core::prelude::*;

#[event(version = 2, previous = Placed)]
pub struct Placed;

fn main() {}
