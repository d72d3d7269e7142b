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

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)))]
pub struct Welcoming;

impl React<Opened> for Welcoming {
    fn instance(&self, _: &Opened, ctx: &EventContext) -> Option<String> {
        Some(ctx.id().to_owned())
    }

    async fn react(
        &self,
        _: &Opened,
        _: &mut Reaction<'_, Welcome>,
    ) -> Result<Events<Welcome>, BoxError> {
        Ok(Welcomed.into())
    }
}

fn main() {
    let _ = Projector::new(es_core::MemoryStore::new(), Welcoming);
}
