include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String)]
#[aggregate(events(Opened))]
pub struct Account;
