use es_core::prelude::*;

pub mod old {
    #[es_core::event]
    pub struct Placed;
}

#[event]
pub enum OrderEvent {
    #[event(version = 2, previous = old::Placed)]
    Placed { cents: u64 },
    Paid,
}

fn main() {}
