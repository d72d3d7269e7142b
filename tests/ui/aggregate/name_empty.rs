include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "", id = String, events(Opened))]
pub struct Account;
