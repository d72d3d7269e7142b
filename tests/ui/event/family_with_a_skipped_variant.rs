use es_core::prelude::*;

#[event]
pub enum OrderEvent {
    Placed,
    #[serde(skip)]
    Paid,
    #[serde(other)]
    Unknown,
}

fn main() {}
