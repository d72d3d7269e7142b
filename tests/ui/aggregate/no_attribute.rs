use es_core::prelude::*;

#[derive(Aggregate, Default)]
pub struct Order;

fn main() {}
