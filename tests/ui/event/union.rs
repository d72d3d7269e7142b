use es_core::prelude::*;

#[event]
pub union Placed {
    pub cents: u64,
}

fn main() {}
