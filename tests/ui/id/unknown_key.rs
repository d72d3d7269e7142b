use es_core::prelude::*;

#[derive(Id)]
#[id(skip_derives(Debug))]
pub struct OrderId(String);

#[derive(Id)]
#[id(skip_derive(Default))]
pub struct LineId(String);

fn main() {}
