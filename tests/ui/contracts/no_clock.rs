include!("../account.rs");

use es_core::MemoryStore;

pub struct Now;

pub fn accounts(store: MemoryStore) -> Repository<Account> {
    Repository::builder(store).clock(Now).ids(0).build()
}
