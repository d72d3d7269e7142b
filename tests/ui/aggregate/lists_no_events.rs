include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events())]
pub struct Account;
