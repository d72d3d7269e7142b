include!("../opened.rs");

#[derive(Aggregate)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account;
