include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = mails, events = Account)]
pub struct Mails;
