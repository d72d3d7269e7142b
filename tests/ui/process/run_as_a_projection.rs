include!("../welcoming.rs");

#[derive(Clone, Process)]
#[process(name = "welcoming", state = Welcome, events(Account(Opened)))]
pub struct Welcoming;

pub fn run(store: es_core::MemoryStore) {
    let _ = Projector::new(store, Welcoming);
}
