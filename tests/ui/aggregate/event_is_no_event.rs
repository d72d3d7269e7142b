use es_core::prelude::*;

pub struct Opened;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
