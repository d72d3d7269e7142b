//! Large events on DynamoDB: missing and damaged objects, lost requests, and sweeping.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::TimeDelta;
use es_core::bytes::Bytes;
use es_core::clock::ManualClock;
use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::payloads::{
    MemoryPayloads, PayloadError, PayloadName, PayloadPrefix, PayloadStore, StoredPayload,
};
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{
    Append, AppendError, Claim, ClaimChange, Commit, Read, StreamState, WriteSet, erased_event,
};
use es_core::testing::{Faults, FaultyPayloads};
use es_core::{EventStore, ExpectedVersion, StoreError, StreamId, Version, error_text};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Reconciler, SweepOptions, SweepReport};
use es_tests::conformance::{Pattern, events, new_commit, new_stream, read_all, time};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::FutureExt;

/// A table, its payload store, and the clock of both.
struct World {
    store: DynamoStore,
    engine: Engine,
    payloads: MemoryPayloads,
    clock: ManualClock,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().expect("a time"));
        let payloads = MemoryPayloads::new().with_clock(clock.clone());
        let engine = Engine::in_memory().expect("the engine starts");
        let store = store_on(&engine, payloads.clone());
        store.create_table().await.expect("creates the table");
        Self { store, engine, payloads, clock }
    }

    fn options(&self) -> SweepOptions {
        SweepOptions::new().with_clock(self.clock.clone())
    }

    /// Reports what a sweep would do.
    async fn dry_sweep(&self) -> SweepReport {
        let reconciler = Reconciler::builder(&self.store).build();
        reconciler.sweep_payloads(self.options().with_dry_run(true)).await.expect("sweeps")
    }

    async fn sweep(&self) -> SweepReport {
        let reconciler = Reconciler::builder(&self.store).build();
        reconciler.sweep_payloads(self.options()).await.expect("sweeps")
    }

    /// Lets a day pass, and sweeps twice, so that all orphans are deleted.
    async fn sweep_everything(&self) -> BTreeSet<PayloadName> {
        self.clock.advance(TimeDelta::days(1));
        self.sweep().await;
        self.clock.advance(TimeDelta::hours(1));
        self.sweep().await.deleted
    }
}

fn store_on(engine: &Engine, payloads: impl PayloadStore) -> DynamoStore {
    DynamoStore::builder().engine(engine).payloads(payloads).build().expect("valid settings")
}

fn large(seed: u64) -> es_core::event::EventData {
    Pattern { seed, bytes: 500 * 1024 }.event()
}

/// Returns an append of a large and a small event to a new stream.
fn append(stream: &StreamId, seed: u64) -> Append {
    let mut all = vec![large(seed)];
    all.extend(events(1));
    Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(all))
}

async fn commits(store: &DynamoStore, stream: &StreamId) -> Vec<Commit> {
    read_all(store, Read::all(stream.clone())).await.commits
}

async fn error_of_reading(store: &DynamoStore, stream: &StreamId) -> StoreError {
    use futures_util::TryStreamExt;
    let read: Result<Vec<_>, _> = store.read(Read::all(stream.clone())).try_collect().await;
    read.expect_err("cannot be read")
}

/// A missing or a damaged object is an error that names it, in loads and in the feed.
#[tokio::test]
async fn a_missing_or_damaged_object_is_named() {
    let world = World::new().await;
    let (stream, other) = (new_stream(), new_stream());
    world.store.append(&append(&stream, 1)).await.expect("appends");
    Reconciler::builder(&world.store).build().run().await.expect("indexes");
    // It is not in the feed, which would return the events before the damaged one.
    world.store.append(&append(&other, 2)).await.expect("appends");
    let name =
        PayloadName::of(PayloadPrefix::new("events/payloads").expect("valid"), large(1).payload().as_bytes());
    let feed_error = async || {
        for slice in world.store.slices().await.expect("is known").iter() {
            if let Err(error) = world.store.read_feed(&FeedRead::new(slice, Position::NONE)).await {
                return error_text(&error);
            }
        }
        panic!("the feed can be read");
    };
    let content = large(1).payload().to_owned();
    let shorter = content[1..].to_owned();
    let another = content.replace('0', "1");
    for damage in [Some(shorter), Some(another), Some(String::new()), None] {
        match &damage {
            Some(damage) => world.payloads.damage(&name, damage.clone()),
            None => world.payloads.delete(&name).await.expect("deletes"),
        }
        let error = error_of_reading(&world.store, &stream).await;
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(&name.to_string()), "{error}");
        let error = feed_error().await;
        assert!(error.contains(&name.to_string()), "{error}");
    }
    assert_eq!(commits(&world.store, &other).await.len(), 1, "other streams are not affected");
}

/// Without a payload store, large events are refused, and cannot be read, with an error that says what to do.
#[tokio::test]
async fn a_store_without_a_payload_store_says_how_to_set_one() {
    let world = World::new().await;
    let without = DynamoStore::builder().engine(&world.engine).build().expect("valid settings");
    let stream = new_stream();
    let error = without.append(&append(&stream, 1)).await.expect_err("too large");
    assert!(error.to_string().contains("payload store with `payloads`"), "{error}");
    world.store.append(&append(&stream, 1)).await.expect("appends");
    let error = error_of_reading(&without, &stream).await;
    assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
    assert!(error.to_string().contains("`payloads` on the builder"), "{error}");
    assert!(error.to_string().contains(stream.as_str()), "{error}");
}

/// Lost uploads, lost responses, and throttling never make an append succeed without its objects.
#[tokio::test]
async fn an_append_is_stored_with_its_objects_or_not_at_all() {
    let world = World::new().await;
    let faults = Faults::seeded(5).lost_requests(0.2).lost_answers(0.2).throttling(0.1).stalls(0.05);
    let faulty = FaultyPayloads::new(world.payloads.clone(), faults.clone());
    let store = store_on(&world.engine, faulty);
    for seed in 0..20 {
        let stream = new_stream();
        let append = append(&stream, seed);
        while let Err(error) = store.append(&append).await {
            let AppendError::Store(error) = error else { panic!("{error:?}") };
            assert!(error.is_retryable() && !error.is_outcome_unknown(), "{error:?}");
            assert!(commits(&world.store, &stream).await.is_empty(), "stored without an object");
        }
        assert_eq!(commits(&world.store, &stream).await[0].events[0], large(seed));
    }
    assert!(faults.injected() > 5, "only {} faults", faults.injected());
}

/// The object of an append that died before it wrote its item is deleted by the second sweep after a day. The objects
/// of other items stay, also if they have the same content.
#[tokio::test]
async fn only_orphans_are_swept() {
    let world = World::new().await;
    let (kept, died) = (new_stream(), new_stream());
    world.store.append(&append(&kept, 1)).await.expect("appends");
    // An append that conflicts leaves its object.
    for seed in [1, 2] {
        let late = append(&kept, seed);
        assert!(world.store.append(&late).await.expect_err("is late").is_conflict());
    }
    // A set that is refused, too.
    let set = WriteSet::new().append(append(&died, 3)).append(append(&kept, 4));
    world.store.write(&set).await.expect_err("is late");
    assert_eq!(world.payloads.names().len(), 4);

    let report = world.sweep().await;
    assert_eq!((report.objects, report.closed.len(), report.deleted.len()), (4, 0, 0), "they are young");
    world.clock.advance(TimeDelta::days(1));
    assert_eq!(world.dry_sweep().await.closed.len(), 3);
    let report = world.sweep().await;
    assert_eq!((report.closed.len(), report.deleted.len()), (3, 0));
    world.clock.advance(TimeDelta::minutes(59));
    let report = world.sweep().await;
    assert_eq!((report.closed.len(), report.deleted.len()), (0, 0), "they have just been closed");
    world.clock.advance(TimeDelta::minutes(1));
    assert_eq!(world.dry_sweep().await.deleted.len(), 3);
    let report = world.sweep().await;
    assert_eq!((report.closed.len(), report.deleted.len()), (0, 3));
    assert!(report.deleted_bytes > 3 * 500_000);
    assert_eq!(world.payloads.names().len(), 1);
    assert_eq!(commits(&world.store, &kept).await[0].events[0], large(1));
}

/// An append stores its objects, and is held up for days before it writes its item. It survives every sweep in between.
#[tokio::test]
async fn an_append_in_flight_never_loses_its_objects() {
    // The number of sweeps before the item is written, with an hour between them.
    for sweeps in 0..4 {
        for in_set in [false, true] {
            let world = World::new().await;
            let held = Held::new(world.payloads.clone());
            let store = store_on(&world.engine, held.clone());
            let (payloads, clock) = (world.payloads.clone(), world.clock.clone());
            let sweeper = world.store.clone();
            held.after_the_next_put(async move {
                clock.advance(TimeDelta::days(2));
                for _ in 0..sweeps {
                    let options = SweepOptions::new().with_clock(clock.clone());
                    Reconciler::builder(&sweeper).build().sweep_payloads(options).await.expect("sweeps");
                    clock.advance(TimeDelta::hours(1));
                }
                assert_eq!(payloads.names().is_empty(), sweeps > 1, "the object was swept");
            });
            let stream = new_stream();
            let append = append(&stream, 7);
            match in_set {
                false => drop(store.append(&append).await.expect("appends")),
                true => drop(store.write(&WriteSet::new().append(append.clone())).await.expect("writes")),
            }
            assert_eq!(commits(&store, &stream).await[0].events[0], large(7));
            world.sweep_everything().await;
            world.sweep_everything().await;
            assert_eq!(commits(&store, &stream).await[0].events[0], large(7), "{sweeps} sweeps");
            assert_eq!(world.payloads.names().len(), 1, "only the object in use is left");
            assert!(store.append(&append).await.expect("is found").repeated);
        }
    }
}

/// Snapshots that were replaced leave objects, which are swept. The last one stays.
#[tokio::test]
async fn the_objects_of_replaced_snapshots_are_swept() {
    let world = World::new().await;
    let (stream, shape) = (new_stream(), Fingerprint::new(77));
    world
        .store
        .append(&Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(3))))
        .await
        .expect("appended");
    let snapshot =
        |version| Snapshot::new(Version::new(version), time(0), shape, large(version).payload().to_owned());
    for version in 1..=3 {
        world.store.write_snapshot(&stream, &snapshot(version), None).await.expect("writes");
    }
    assert_eq!(world.sweep_everything().await.len(), 2);
    let read = || Read::all(stream.clone()).from_snapshot(shape, 5);
    assert!(read_all(&world.store, read()).await.snapshot == Some(snapshot(3)));

    // A snapshot is a cache: without its object, the events are read.
    for name in world.payloads.names() {
        world.payloads.delete(&name).await.expect("deletes");
    }
    let page = read_all(&world.store, read()).await;
    assert_eq!((page.snapshot, page.unusable_snapshot), (None, Some(Version::new(3))));
    assert_eq!(page.commits.len(), 1);
}

/// A page has no copies of commits with objects, because the payloads are not in their items.
#[tokio::test]
async fn a_consumer_reads_large_events_past_copies() {
    let world = World::new().await;
    let store = DynamoStore::builder().engine(&world.engine).payloads(world.payloads.clone());
    let store = store.copy_commits(100_000).build().expect("valid settings");
    let (stream, small) = (new_stream(), new_stream());
    store.append(&append(&stream, 1)).await.expect("appends");
    store
        .append(&Append::new(small, ExpectedVersion::NoStream, new_commit(events(2))))
        .await
        .expect("appends");
    let reconciler = Reconciler::builder(&store).build();
    reconciler.run().await.expect("indexes");
    let page = store.read_feed(&FeedRead::new(Slice::new(0), Position::NONE)).await.expect("reads");
    let mut payloads: Vec<_> = page.entries.iter().flat_map(|entry| entry.commit.events.clone()).collect();
    payloads.sort_by_key(|event| event.payload().len());
    assert_eq!((payloads.len(), payloads.pop()), (4, Some(large(1))));
    assert!(reconciler.audit().await.expect("audits").is_sound());
}

/// The objects of a deleted stream are swept, unless another stream has the same content. Its claims are released, also
/// if the commit that took them has a large event.
#[tokio::test]
async fn the_objects_of_a_deleted_stream_are_swept() {
    let world = World::new().await;
    let (stream, other) = (new_stream(), new_stream());
    let claim = Claim::new("large", stream.id()).expect("a valid claim");
    let set = WriteSet::new().append(append(&stream, 1)).append(append(&other, 2));
    let take = ClaimChange::Take { stream: stream.clone(), claim: claim.clone() };
    world.store.write(&set.claims([take])).await.expect("writes");
    let shared = Append::after_loaded(stream.clone(), Version::new(2), new_commit(vec![large(2)]));
    world.store.append(&shared).await.expect("appends");
    let state = large(3).payload().to_owned();
    let snapshot = Snapshot::new(Version::new(3), time(0), Fingerprint::new(77), state);
    world.store.write_snapshot(&stream, &snapshot, None).await.expect("writes");
    assert_eq!(world.payloads.names().len(), 3);
    assert_eq!(world.store.claim_holder(&claim).await.expect("is known").stream, Some(stream.clone()));

    let head = world.store.head(&stream).await.expect("is known");
    let id = new_commit(Vec::new()).id;
    let delete = Append::state_change(stream.clone(), &head, &StreamState::Deleted, id, time(0));
    world.store.append(&delete.expect("is open")).await.expect("deletes");
    world.store.erase(&stream).await.expect("erases");
    assert_eq!(world.store.claim_holder(&claim).await.expect("is known").stream, None);
    assert_eq!(world.sweep_everything().await.len(), 2);
    assert_eq!(commits(&world.store, &other).await[0].events[0], large(2));
    let erased = commits(&world.store, &stream).await;
    assert_eq!(erased[0].events, [erased_event(), erased_event()]);
}

/// An item of an unknown format may refer to objects in another way, so nothing is deleted.
#[tokio::test]
async fn an_unknown_format_stops_a_sweep() {
    let world = World::new().await;
    let stream = new_stream();
    world.store.append(&append(&stream, 1)).await.expect("appends");
    world.store.append(&append(&stream, 2)).await.expect_err("is late");
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let item = world.store.client().put_item().table_name(world.store.table_name());
    let item = item.item("pk", text(stream.as_str())).item("sk", text("E#000000000009"));
    item.item("f", AttributeValue::N("77".to_owned())).send().await.expect("writes");
    world.clock.advance(TimeDelta::days(1));
    let swept = Reconciler::builder(&world.store).build().sweep_payloads(world.options()).await;
    let error = swept.expect_err("stops");
    assert!(error.to_string().contains("format 77"), "{error}");
    assert_eq!(world.payloads.names().len(), 2);
}

/// A payload store that runs something after the next put, before it responds.
#[derive(Clone)]
struct Held {
    payloads: MemoryPayloads,
    then: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl Held {
    fn new(payloads: MemoryPayloads) -> Self {
        Self { payloads, then: Arc::default() }
    }

    fn after_the_next_put(&self, then: impl Future<Output = ()> + Send + 'static) {
        *self.then.lock().expect("no test panicked") = Some(then.boxed());
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

#[async_trait]
impl PayloadStore for Held {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        self.payloads.put(name, content).await?;
        let then = self.then.lock().expect("no test panicked").take();
        if let Some(then) = then {
            then.await;
        }
        Ok(())
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        self.payloads.get(name).await
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        self.payloads.delete(name).await
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        self.payloads.list(prefix)
    }
}
