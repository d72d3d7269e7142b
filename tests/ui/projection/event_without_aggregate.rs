include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Opened, Closed))]
pub struct Mails;
