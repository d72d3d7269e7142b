use es_core::prelude::*;

#[derive(Clone, Debug, PartialEq)]
pub struct Money(u64);

#[event]
pub struct Paid {
    pub amount: Money,
}

fn main() {}
