include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails;

pub fn run() -> es_core::Workers {
    es_core::Workers::new().add(Mails)
}
