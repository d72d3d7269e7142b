//! Personal data: events, states, rows, and everything else that is stored, before and after its subject is forgotten.

mod consumers;
pub(crate) mod domain;
mod faults;
mod forgetting;
pub(crate) mod keyring_faults;
mod table;

/// Without personal data, a store with a keyring behaves like the store itself.
mod conformance {
    use std::sync::Arc;

    use es_core::MemoryStore;
    use es_core::personal::{MemoryKeyring, SealedStore};

    fn store() -> Arc<SealedStore<MemoryStore>> {
        Arc::new(SealedStore::new(MemoryStore::new(), MemoryKeyring::new()))
    }

    es_tests::conformance!(store());
    es_tests::documents_conformance!(store());
    es_tests::feed_conformance!(store());
}
