//! Snapshots whose serialization is faulty.

use std::sync::atomic::{AtomicBool, Ordering};

use es_core::prelude::*;
use es_core::serde::de::DeserializeOwned;
use es_core::serde::{Deserialize, Deserializer, Serialize, Serializer};
use es_core::snapshot::SnapshotPolicy;
use es_core::{MemoryStore, Repository};
use es_tests::recorder::Seen;
use tracing::Level;

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

/// Whose serialization loses a part of it.
#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(name = "lossy", id = String, events(Counted), snapshot(every = 1))]
struct Lossy {
    count: u64,
    #[serde(skip)]
    cached: u64,
    nested: Option<Option<u64>>,
}

/// Whose serialized form cannot be read.
#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(name = "unreadable", id = String, events(Counted), snapshot(every = 1))]
struct Unreadable {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    none: Vec<u64>,
}

impl Apply<Counted> for Lossy {
    fn apply(&mut self, _: &Counted) {
        (self.count, self.cached, self.nested) = (self.count + 1, self.cached + 1, Some(None));
    }
}

impl Apply<Counted> for Unreadable {
    fn apply(&mut self, _: &Counted) {}
}

/// Records an event, and returns the states of a load with and of one without snapshots, and the warnings.
fn loads<A>(id: &str) -> ([A; 2], Vec<String>)
where
    A: Aggregate<Id = String, Event: From<Counted>> + Clone + Serialize + DeserializeOwned,
{
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let states = seen.record(async {
        let recording = Repository::<A>::new(store.clone());
        let decision = recording.decide(id, async |_, _| Ok::<_, std::convert::Infallible>(Counted.into()));
        decision.await.expect("is recorded");
        recording.flush().await;
        let with = Repository::<A>::new(store.clone()).load(id).await.expect("loads");
        let without = Repository::<A>::builder(store).snapshots(SnapshotPolicy::Never).build();
        [with.state, without.load(id).await.expect("loads").state]
    });
    let warnings = seen.log(Level::WARN);
    (states, warnings.iter().map(|line| format!("{}: {}", line.message(), line.text("error"))).collect())
}

#[test]
fn a_snapshot_that_would_change_the_state_is_not_written() {
    let ([with, without], warnings) = loads::<Lossy>("a");
    assert_eq!(with, without);
    assert_eq!(without, Lossy { count: 1, cached: 1, nested: Some(None) });
    assert_eq!(
        warnings,
        [
            "could not write a snapshot: the state has another value after it was decoded again: serialize all \
          fields, or remove `snapshot` from `#[aggregate(…)]`"
        ]
    );
}

#[test]
fn a_snapshot_that_cannot_be_read_is_not_written() {
    let (_, warnings) = loads::<Unreadable>("a");
    assert_eq!(
        warnings,
        [
            "could not write a snapshot: the state cannot be decoded again: missing field `none` at line 1 column 2"
        ]
    );
}
