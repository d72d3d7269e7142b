use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[derive(Clone)]
pub struct AccountId(u64);

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = AccountId, events(Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
