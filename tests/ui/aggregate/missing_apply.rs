include!("../opened.rs");

#[event]
pub struct Closed;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, Closed))]
pub struct Account;
