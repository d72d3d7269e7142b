use es_core::prelude::*;

pub struct Account;

pub fn accounts(store: es_core::MemoryStore) -> Repository<Account> {
    Repository::new(store)
}

fn main() {}
