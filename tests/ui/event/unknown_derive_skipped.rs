use es_core::prelude::*;

#[event(skip_derive(Eq))]
pub struct Placed;

fn main() {}
