use es_core::prelude::*;

#[event(alias = "Placed", alias = "Ordered", alias = "Ordered")]
pub struct Placed;

fn main() {}
