include!("../welcome.rs");

#[derive(Clone)]
pub struct Welcoming;

pub fn run(store: es_core::MemoryStore) {
    let _ = Projector::of_process(store, Welcoming);
}
