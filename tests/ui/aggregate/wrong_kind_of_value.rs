include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = account, id = "String", events = Opened, snapshot = 100)]
pub struct Account;
