use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

pub mod closing {
    #[es_core::event(name = "ClosingOpened")]
    pub struct Opened;
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, closing::Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
