use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[event]
pub struct Closed;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Closed))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
