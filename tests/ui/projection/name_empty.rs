include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "", events(Account(Opened)))]
pub struct Mails;
