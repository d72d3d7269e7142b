use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[event]
pub struct Shipped;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

pub struct Close;
pub struct Ship;

impl Handle<Close> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Close, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(Shipped.into())
    }
}

impl Handle<Ship> for Account {
    type Error = std::convert::Infallible;

    fn handle(&self, _: &Ship, _: &Context<Self>) -> Result<Events<Self>, Self::Error> {
        Ok(events![Opened { owner: String::new() }, Shipped])
    }
}

fn main() {}
