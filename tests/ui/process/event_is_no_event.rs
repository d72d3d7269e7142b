include!("../welcoming.rs");

pub struct Renamed;

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened, Renamed)))]
pub struct Welcoming;

impl React<Renamed> for Welcoming {
    fn instance(&self, _: &Renamed, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(&self, _: &Renamed, _: &mut Reaction<'_, Welcome>) -> Result<Events<Welcome>, BoxError> {
        Ok(Welcomed.into())
    }
}
