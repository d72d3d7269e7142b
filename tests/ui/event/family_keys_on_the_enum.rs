use es_core::prelude::*;

#[event(name = "OrderEvent", version = 2)]
pub enum OrderEvent {
    Placed,
}

fn main() {}
