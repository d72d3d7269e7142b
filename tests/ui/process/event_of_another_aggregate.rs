include!("../welcoming.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened, Welcomed)))]
pub struct Welcoming;

impl React<Welcomed> for Welcoming {
    fn instance(&self, _: &Welcomed, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(&self, _: &Welcomed, _: &mut Reaction<'_, Welcome>) -> Result<Events<Welcome>, BoxError> {
        Ok(Welcomed.into())
    }
}
