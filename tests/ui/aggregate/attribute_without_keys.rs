include!("../opened.rs");

#[derive(Aggregate, Default)]
#[aggregate]
pub struct Account;
