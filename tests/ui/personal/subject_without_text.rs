use es_core::personal::Personal;
use es_core::prelude::*;

#[event]
pub struct Registered {
    pub customer: Vec<u8>,
    #[personal(subject = customer)]
    pub name: Personal<String>,
}

fn main() {}
