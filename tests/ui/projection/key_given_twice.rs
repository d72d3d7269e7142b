include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", name = "letters", events(Account(Opened)))]
pub struct Mails;
