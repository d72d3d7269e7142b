use es_core::personal::Personal;
use es_core::prelude::*;

#[event]
pub struct Registered {
    pub customer: String,
    pub name: Personal<String>,
    #[personal]
    pub born: Personal<String>,
    #[personal()]
    pub phones: Vec<Personal<String>>,
}

#[event]
pub enum CustomerEvent {
    Moved { customer: String, address: Option<Personal<String>> },
    Renamed(Personal<String>),
}

fn main() {}
