use es_core::prelude::*;

#[derive(Id, Debug)]
pub struct OrderId(String);

fn main() {}
