use es_core::prelude::*;

#[event]
pub enum OrderEvent {}

fn main() {}
