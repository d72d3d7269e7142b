include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened, Closed, Opened)))]
pub struct Mails;

impl Project<Closed> for Mails {
    async fn project(&mut self, _: &Closed, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}
