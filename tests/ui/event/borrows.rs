use es_core::prelude::*;

#[event]
pub struct Placed<'a> {
    pub customer: &'a str,
}

fn main() {}
