use es_core::prelude::*;

#[derive(Aggregate, Default)]
#[aggregate(name = "order")]
pub struct Order;

fn main() {}
