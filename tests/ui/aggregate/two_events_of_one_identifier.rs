include!("../opened.rs");

pub mod closing {
    #[es_core::event(name = "ClosingOpened")]
    pub struct Opened;
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, closing::Opened))]
pub struct Account;
