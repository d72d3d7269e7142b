include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened), event = Opened)]
pub struct Account;
