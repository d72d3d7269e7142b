use es_core::prelude::*;

#[event]
pub struct Opened;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

#[event]
pub struct Welcomed;

#[derive(Aggregate, Default)]
#[aggregate(name = "welcome", id = String, events(Welcomed))]
pub struct Welcome;

impl Apply<Welcomed> for Welcome {
    fn apply(&mut self, _: &Welcomed) {}
}

pub struct Late;

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)), timeouts(Late))]
pub struct Welcoming;

impl React<Opened> for Welcoming {
    fn instance(&self, _: &Opened, ctx: &EventContext) -> Option<String> {
        Some(ctx.id().to_owned())
    }

    async fn react(&self, _: &Opened, _: &mut Reaction<'_, Welcome>) -> Result<Events<Welcome>, BoxError> {
        Ok(Welcomed.into())
    }
}

impl React<Late> for Welcoming {
    fn instance(&self, _: &Late, ctx: &EventContext) -> Option<String> {
        Some(ctx.id().to_owned())
    }

    async fn react(&self, _: &Late, _: &mut Reaction<'_, Welcome>) -> Result<Events<Welcome>, BoxError> {
        Ok(Welcomed.into())
    }
}

fn main() {}
