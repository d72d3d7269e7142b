include!("../mails.rs");

#[derive(Clone, Projection)]
pub struct Mails;
