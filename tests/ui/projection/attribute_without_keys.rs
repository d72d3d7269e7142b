include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection]
pub struct Mails;
