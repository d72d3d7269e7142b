use es_core::prelude::*;

#[event]
pub fn placed() {}

fn main() {}
