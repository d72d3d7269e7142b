include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(events(Account(Opened)))]
pub struct Mails;
