use es_core::prelude::*;

#[event(name = OrderPlaced)]
pub struct Placed;

#[event(version = "two")]
pub struct Shipped;

#[event(name)]
pub struct Paid;

fn main() {}
