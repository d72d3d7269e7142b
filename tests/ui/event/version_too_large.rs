use es_core::prelude::*;

#[event(version = 4294967296)]
pub struct Placed;

fn main() {}
