include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate(name = "$account", retired(Opened), snapshot(every = 0, evry = 5), events(Opened, Opened))]
pub struct Account;
