include!("../account.rs");

use es_core::MemoryStore;

pub fn name() -> Repository<Account> {
    Repository::new("events")
}

pub fn borrowed(store: &MemoryStore) -> Repository<Account> {
    Repository::new(store)
}
