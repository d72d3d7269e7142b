include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(id = String, events(Opened))]
pub struct Account;
