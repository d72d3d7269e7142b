use es_core::prelude::*;

#[event]
pub enum DoorEvent {
    Opened,
    Closed,
}

#[derive(Aggregate, Default)]
#[aggregate(name = "door", id = String, event = DoorEvent, event_enum = AnyDoorEvent)]
pub struct Door;

impl Apply<DoorEvent> for Door {
    fn apply(&mut self, _: &DoorEvent) {}
}

fn main() {}
