include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Opened))]
pub struct Account;
