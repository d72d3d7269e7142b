use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[event(name = "Opened")]
pub struct Reopened;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Reopened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

impl Apply<Reopened> for Account {
    fn apply(&mut self, _: &Reopened) {}
}

fn main() {}
