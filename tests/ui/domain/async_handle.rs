use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

pub struct Open;

impl Handle<Open> for Account {
    type Error = BoxError;

    async fn handle(&self, _: &Open, _: &Context<Self>) -> Result<Events<Self>, BoxError> {
        Ok(Events::none())
    }
}

fn main() {}
