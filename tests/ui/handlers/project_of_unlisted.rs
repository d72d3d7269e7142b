include!("../account.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails;

#[handlers]
impl Mails {
    #[project]
    async fn opened(&mut self, _: &Opened) {}

    #[project]
    async fn closed(&mut self, _: &Closed) {}
}
