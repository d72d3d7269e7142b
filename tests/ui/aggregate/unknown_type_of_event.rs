use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

pub mod closing {}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, closing::Closed))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
