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

#[derive(Clone, Projection)]
#[projection(name = "", events(Account(Opened)))]
pub struct Mails;

impl Project<Opened> for Mails {
    async fn project(&mut self, _: &Opened, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}

fn main() {}
