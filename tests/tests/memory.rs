//! The conformance suite on the store in memory.

use std::sync::Arc;

use es_core::MemoryStore;

es_tests::conformance!(Arc::new(MemoryStore::new()));
es_tests::documents_conformance!(Arc::new(MemoryStore::new()));
es_tests::feed_conformance!(Arc::new(MemoryStore::new()));
