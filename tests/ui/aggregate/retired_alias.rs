use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[event(alias = "Shut")]
pub struct Closed;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Closed), retired("Vanished", "Shut"))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

impl Apply<Closed> for Account {
    fn apply(&mut self, _: &Closed) {}
}

fn main() {}
