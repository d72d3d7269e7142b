include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened), snapshot(evry = 10))]
pub struct Account;
