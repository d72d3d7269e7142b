use es_core::prelude::*;

#[event]
pub struct Filed;
#[derive(Aggregate, Default)]
#[aggregate(name = "claim", id = String, events(Filed))]
pub struct Claim;
impl Apply<Filed> for Claim {
    fn apply(&mut self, _: &Filed) {}
}

#[event]
pub struct Late;

#[derive(Clone, Process)]
#[process(name = "watch", state = Claim, events(Claim(Filed)))]
struct Watch;

impl React<Filed> for Watch {
    fn instance(&self, _: &Filed, _: &EventContext) -> Option<String> {
        None
    }
    async fn react(&self, _: &Filed, _: &mut Reaction<'_, Claim>) -> Result<Events<Claim>, BoxError> {
        Ok(Events::none())
    }
}

impl React<Late> for Watch {
    fn instance(&self, _: &Late, _: &EventContext) -> Option<String> {
        None
    }
    async fn react(&self, _: &Late, _: &mut Reaction<'_, Claim>) -> Result<Events<Claim>, BoxError> {
        Ok(Events::none())
    }
}

fn main() {}
