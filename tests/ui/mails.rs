// An aggregate, and a handler, for the cases that define the projection `Mails`.

include!("account.rs");

impl Project<Opened> for Mails {
    async fn project(&mut self, _: &Opened, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}
