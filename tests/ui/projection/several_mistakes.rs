include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(nme = "mails", events(Account(Opened, Opened), Closed))]
pub struct Mails;
