include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened), retired("Opened"))]
pub struct Account;
