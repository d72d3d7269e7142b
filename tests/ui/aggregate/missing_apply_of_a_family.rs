use es_core::prelude::*;

#[event]
pub enum DoorEvent {
    Opened,
    Closed,
}

#[derive(Aggregate, Default)]
#[aggregate(name = "door", id = String, event = DoorEvent)]
pub struct Door;

fn main() {}
