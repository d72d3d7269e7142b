include!("../mails.rs");

#[event]
pub struct Shipped;

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened, Shipped)))]
pub struct Mails;

impl Project<Shipped> for Mails {
    async fn project(&mut self, _: &Shipped, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}
