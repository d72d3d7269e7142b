// The domain of a process, and a reaction, for the cases that define the process `Welcoming`.

include!("welcome.rs");

impl React<Opened> for Welcoming {
    fn instance(&self, _: &Opened, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(&self, _: &Opened, _: &mut Reaction<'_, Welcome>) -> Result<Events<Welcome>, BoxError> {
        Ok(Welcomed.into())
    }
}
