include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events())]
pub struct Mails;
