include!("../mails.rs");

use std::sync::Arc;

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails;

pub fn run(store: Arc<dyn es_core::EventStore>) {
    let _ = Projector::new(store, Mails);
}
