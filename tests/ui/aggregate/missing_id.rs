include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "account", events(Opened))]
pub struct Account;
