use es_core::prelude::*;

#[event(version = 2)]
pub struct Placed;

fn main() {}
