include!("../mails.rs");

pub struct Customer;

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Customer(Opened)))]
pub struct Mails;
