include!("../mails.rs");

#[derive(Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails;
