// An event and its `Apply`, for the cases that define `Account`.

use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
