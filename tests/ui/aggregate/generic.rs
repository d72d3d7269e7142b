use es_core::prelude::*;

#[event]
pub struct Opened {
    pub owner: String,
}

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = String, events(Opened))]
pub struct Account<T> {
    pub extra: T,
}

impl<T> Apply<Opened> for Account<T> {
    fn apply(&mut self, _: &Opened) {}
}

fn main() {}
