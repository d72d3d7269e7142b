use es_core::prelude::*;

#[event]
pub enum OrderEvent {
    Placed,
    #[event(name = "Placed")]
    Ordered,
}

fn main() {}
