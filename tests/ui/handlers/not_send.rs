include!("../account.rs");

use std::rc::Rc;

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails;

async fn send(_: &str) {}

#[handlers]
impl Mails {
    #[project]
    async fn opened(&mut self, event: &Opened) {
        let owner = Rc::new(event.owner.clone());
        send(&owner).await;
    }
}
