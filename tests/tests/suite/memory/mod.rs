//! The conformance suite on the store in memory.

mod spans;

use std::sync::Arc;

use es_core::MemoryStore;

es_tests::conformance!(Arc::new(MemoryStore::new()));
es_tests::documents_conformance!(Arc::new(MemoryStore::new()));
es_tests::feed_conformance!(Arc::new(MemoryStore::new()));

/// Pages that end anywhere are pages all the same.
mod with_cut_pages {
    use std::sync::Arc;

    use es_core::MemoryStore;
    use es_core::testing::{Faults, FaultyStore};

    fn store() -> FaultyStore<MemoryStore> {
        FaultyStore::new(MemoryStore::new(), Faults::seeded(7).cut_pages(0.6))
    }

    es_tests::documents_conformance!(Arc::new(store()));
    es_tests::feed_conformance!(Arc::new(store()));
}
