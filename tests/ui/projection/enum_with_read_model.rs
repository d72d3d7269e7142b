include!("../mails.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub enum Mails {
    Kept {
        #[read_model]
        rows: Vec<u8>,
    },
}
