include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened, Closed)))]
pub struct Mails;
