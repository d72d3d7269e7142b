include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, event(Opened))]
pub struct Account;
