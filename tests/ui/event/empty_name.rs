use es_core::prelude::*;

#[event(name = "")]
pub struct Placed;

fn main() {}
