include!("../account.rs");

#[derive(Clone, Projection)]
#[projection(name = "mails", events(Account(Opened)))]
pub struct Mails<T> {
    to: T,
}
