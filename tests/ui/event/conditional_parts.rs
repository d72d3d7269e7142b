use es_core::prelude::*;

#[event]
pub struct Placed {
    #[cfg(windows)]
    pub path: String,
}

#[event]
pub enum OrderEvent {
    Placed,
    #[cfg(windows)]
    Paid,
}

fn main() {}
