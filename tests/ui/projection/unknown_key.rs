include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", event(Account(Opened)))]
pub struct Mails;
