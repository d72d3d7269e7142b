include!("../account.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails<T> {
    to: T,
}

impl<T: Send> Project<Opened> for Mails<T> {
    async fn project(&mut self, _: &Opened, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}
