//! Snapshots whose serialization is faulty.

use std::sync::atomic::{AtomicBool, Ordering};

use es_core::prelude::*;
use es_core::serde::{Deserialize, Deserializer, Serialize, Serializer};
use es_core::{MemoryStore, Repository};

static PANICS_WRITING: AtomicBool = AtomicBool::new(false);
static PANICS_READING: AtomicBool = AtomicBool::new(false);

/// A number whose serialization may panic.
#[derive(Default)]
struct Count(u64);

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!PANICS_WRITING.load(Ordering::SeqCst), "a bug in Serialize");
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        assert!(!PANICS_READING.load(Ordering::SeqCst), "a bug in Deserialize");
        u64::deserialize(deserializer).map(Self)
    }
}

#[event]
struct Counted;

struct CountOnce;

#[derive(Aggregate, Default, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(name = "counter", id = String, events(Counted), snapshot(every = 1))]
struct Counter {
    count: Count,
}

#[handlers]
impl Counter {
    #[apply]
    fn counted(&mut self, _: &Counted) {
        self.count.0 += 1;
    }

    #[handle]
    fn count(&self, _: &CountOnce) -> Counted {
        Counted
    }
}

/// The events of the command are recorded before its snapshot is taken.
#[tokio::test]
async fn a_snapshot_that_panics_affects_neither_commands_nor_loads() {
    let (store, id) = (MemoryStore::new(), "c".to_owned());
    let counters = || Repository::<Counter>::new(store.clone());
    for expected in 1..=3 {
        PANICS_WRITING.store(expected == 2, Ordering::SeqCst);
        let outcome = counters().execute(&id, CountOnce).await.expect("is recorded");
        assert_eq!((outcome.version.get(), outcome.state.count.0), (expected, expected));
        counters().flush().await;
    }
    PANICS_READING.store(true, Ordering::SeqCst);
    let loaded = counters().load(&id).await.expect("loads from the events");
    assert_eq!((loaded.version.get(), loaded.state.count.0), (3, 3));
}
