include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails")]
pub struct Mails;
