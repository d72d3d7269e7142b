use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

pub mod closing {
    pub mod facts {
        #[es_core::event]
        pub struct Closed;
    }
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened, closing::facts::Closed))]
pub struct Account;

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
