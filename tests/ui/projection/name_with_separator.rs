include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails#1", events(Account(Opened)))]
pub struct Mails;
