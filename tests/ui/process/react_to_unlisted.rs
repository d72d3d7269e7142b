include!("../welcoming.rs");

#[event]
pub struct Late;

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)))]
pub struct Welcoming;

impl React<Late> for Welcoming {
    fn instance(&self, _: &Late, _: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(None)
    }

    async fn react(&self, _: &Late, _: &mut Reaction<'_, Welcome>) -> Result<Events<Welcome>, BoxError> {
        Ok(Events::none())
    }
}
