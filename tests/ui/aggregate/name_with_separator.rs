include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "bank#account", id = String, events(Opened))]
pub struct Account;
