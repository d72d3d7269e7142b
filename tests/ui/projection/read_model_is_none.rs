include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails {
    #[read_model]
    rows: Vec<u8>,
}
