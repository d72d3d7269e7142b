include!("../account.rs");

pub struct Mails;

pub fn run(store: es_core::MemoryStore) {
    Projector::new(store, Mails);
}
