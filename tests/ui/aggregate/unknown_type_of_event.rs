include!("../opened.rs");

pub mod closing {}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, closing::Closed))]
pub struct Account;
