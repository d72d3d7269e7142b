include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, name = "bank", events(Opened))]
pub struct Account;
