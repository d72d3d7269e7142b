include!("../mails.rs");

use es_core::serde::{Deserialize, Serialize};

#[derive(Clone, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "mails", key = account)]
pub struct Mail {
    account: String,
}

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails {
    mails: ReadModel<Mail>,
    #[read_model(read_only)]
    others: ReadModel<Mail>,
}
