include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened), snapshot(every = 10))]
pub struct Account;
