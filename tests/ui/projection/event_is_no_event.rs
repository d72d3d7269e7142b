include!("../account.rs");

pub struct Renamed;

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Renamed)))]
pub struct Mails;

impl Project<Renamed> for Mails {
    async fn project(&mut self, _: &Renamed, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}
