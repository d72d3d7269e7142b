use es_core::prelude::*;

#[event]
pub struct Registered {
    pub customer: String,
    #[personal(subject = customer)]
    pub name: String,
}

fn main() {}
