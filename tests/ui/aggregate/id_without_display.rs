include!("../opened.rs");

#[derive(Clone)]
pub struct AccountId(u64);

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = AccountId, events(Opened))]
pub struct Account;
