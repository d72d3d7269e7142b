use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[derive(Aggregate, Default)]
#[aggregate(name = account, id = "String", events = Opened, snapshot = 100)]
pub struct Account;

fn main() {}
