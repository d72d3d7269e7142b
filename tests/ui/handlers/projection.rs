include!("../account.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened, Closed)))]
pub struct Mails;

#[handlers]
impl Mails {
    #[project]
    async fn opened(self, event: Opened, _: &EventContext, sender: String) -> Result<(), BoxError> {
        Err(format!("no mail from {sender} to {}", event.owner).into())
    }

    #[project]
    async fn closed(&mut self, _: &Closed) -> Result<u8, BoxError> {
        Ok(0)
    }
}
