use es_core::prelude::*;

#[event]
pub struct Placed<T> {
    pub what: T,
}

fn main() {}
