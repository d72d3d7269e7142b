include!("../opened.rs");

pub mod closing {
    pub mod facts {
        #[es_core::event]
        pub struct Closed;
    }
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, closing::facts::Closed))]
pub struct Account;
