use es_core::prelude::*;

#[event]
pub struct Opened;

#[event]
pub struct Closed;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Closed))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

impl Apply<Closed> for Account {
    fn apply(&mut self, _: &Closed) {}
}

pub struct Mails;

pub fn run(store: es_core::MemoryStore) {
    Projector::new(store, Mails);
}

fn main() {}
