include!("../welcoming.rs");

#[event]
pub struct Late;

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)), timeouts(Late, Late))]
pub struct Welcoming;

impl React<Late> for Welcoming {
    fn instance(&self, _: &Late, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(&self, _: &Late, _: &mut Reaction<'_, Welcome>) -> Result<Events<Welcome>, BoxError> {
        Ok(Welcomed.into())
    }
}
