//! The payload store on an S3-compatible server.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use chrono::{TimeDelta, Utc};
use es_core::Repository;
use es_core::clock::ManualClock;
use es_core::event::EventData;
use es_core::payloads::{PayloadError, PayloadName, PayloadStore, Payloads};
use es_core::repository::Archives;
use es_core::store::{Append, AppendError, Read};
use es_core::testing::Faults;
use es_core::{EventStore, ExpectedVersion, StoreError, error_text};
use es_dynamo::embedded::Engine;
use es_dynamo::payloads::S3Payloads;
use es_dynamo::testing::FaultyConnector;
use es_dynamo::{DynamoStore, Reconciler, SweepOptions};
use es_tests::conformance::large_events::MAX_BYTES;
use es_tests::conformance::{Pattern, events, new_commit, new_stream, read_all};
use es_tests::domain::{Account, Deposit};
use es_tools::policy::Feature;
use futures_util::TryStreamExt;
use uuid::Uuid;

use super::name_of;
use crate::services::endpoint;

es_tests::payloads_conformance!([#[ignore = "needs an S3-compatible server: `just test-services`"]] Arc::new(payloads().await));
es_tests::large_events_conformance!([#[ignore = "needs an S3-compatible server: `just test-services`"]] Arc::new(store(payloads().await).await));

/// Returns a client of the server, and a new bucket.
async fn bucket() -> (Client, String) {
    let client = S3Payloads::client_at(endpoint());
    let bucket = format!("es-tests-{}", Uuid::new_v4());
    client.create_bucket().bucket(&bucket).send().await.expect("creates the bucket");
    (client, bucket)
}

/// Returns a payload store in a new bucket.
async fn payloads() -> S3Payloads {
    let (client, bucket) = bucket().await;
    S3Payloads::new(client, bucket).with_key_prefix("production/shop".parse().expect("valid"))
}

/// Returns a store with a new table.
async fn store(payloads: impl PayloadStore) -> DynamoStore {
    let payloads = Payloads::new(payloads).with_max_bytes(MAX_BYTES);
    let engine = Engine::in_memory().expect("the engine starts");
    let store = DynamoStore::builder().engine(&engine).payloads(payloads).build().expect("valid settings");
    store.create_table().await.expect("creates the table");
    store
}

/// Returns an event of 500 KB.
fn large(seed: u64) -> EventData {
    Pattern { seed, bytes: 500 * 1024 }.event()
}

/// Replaces an object, which neither the framework nor S3 ever does.
async fn damage(client: &Client, bucket: &str, name: &PayloadName, content: &str) {
    let put = client.put_object().bucket(bucket).key(name.to_string());
    put.body(ByteStream::from(content.as_bytes().to_vec())).send().await.expect("replaces the object");
}

/// An HTTP client whose connectors are those of `client`, changed by `wrap`.
struct Wrapping<W> {
    client: SharedHttpClient,
    wrap: W,
}

impl<W> std::fmt::Debug for Wrapping<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wrapping")
    }
}

impl<W> HttpClient for Wrapping<W>
where
    W: Fn(SharedHttpConnector) -> SharedHttpConnector + Send + Sync,
{
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        (self.wrap)(self.client.http_connector(settings, components))
    }
}

/// Returns a client whose requests pass through `wrap`.
fn through(
    client: &Client,
    wrap: impl Fn(SharedHttpConnector) -> SharedHttpConnector + Send + Sync + 'static,
) -> Client {
    let http = Wrapping { client: client.config().http_client().expect("has a client"), wrap };
    let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    Client::from_conf(client.config().to_builder().http_client(http).retry_config(retries).build())
}

/// A put whose request or response is lost is repeated, by the SDK and by the caller. Once it succeeds, the object is
/// there.
#[tokio::test]
#[ignore = "needs an S3-compatible server: `just test-services`"]
async fn lost_uploads_and_lost_responses_are_repeated() {
    let (client, bucket) = bucket().await;
    let faults = Faults::seeded(16).lost_requests(0.2).lost_answers(0.2).internal_errors(0.2);
    let injected = faults.clone();
    let faulty = through(&client, move |http| FaultyConnector::new(http, injected.clone()).into_shared());
    let faulty = S3Payloads::new(faulty, &bucket);
    let payloads = S3Payloads::new(client, &bucket);
    let mut failures = 0;
    for number in 0..40 {
        let content = format!("content {number}").repeat(100);
        let name = name_of(&content);
        while let Err(error) = faulty.put(&name, content.clone().into()).await {
            assert!(error.is_retryable(), "{error:?}");
            failures += 1;
        }
        assert_eq!(payloads.get(&name).await.expect("is stored"), content);
        while let Err(error) = faulty.get(&name).await {
            assert!(error.is_retryable(), "{error:?}");
            failures += 1;
        }
    }
    let listed: Vec<_> = payloads.list(name_of("").prefix()).try_collect().await.expect("lists");
    assert_eq!(listed.len(), 40);
    assert!(failures > 5 && faults.injected() > 50, "{failures} failures, {} faults", faults.injected());
}

/// An object with another content is never overwritten, and an event whose object is damaged or missing is not loaded.
#[tokio::test]
#[ignore = "needs an S3-compatible server: `just test-services`"]
async fn a_damaged_or_missing_object_is_named() {
    let (client, bucket) = bucket().await;
    let payloads = S3Payloads::new(client.clone(), &bucket);
    let store = store(payloads.clone()).await;
    let stream = new_stream();
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(vec![large(1)]));
    store.append(&append).await.expect("appends");
    let content = large(1).payload().to_owned();
    let name = name_of(&content);
    let error = async || {
        let read: Result<Vec<_>, _> = store.read(Read::all(stream.clone())).try_collect().await;
        read.expect_err("cannot be read")
    };
    for other in [content.replace('0', "1"), content[1..].to_owned(), String::new()] {
        damage(&client, &bucket, &name, &other).await;
        let stored = payloads.put(&name, content.clone().into()).await.expect_err("has another content");
        assert!(matches!(stored, PayloadError::Corrupt { .. }), "{stored:?}");
        assert_eq!(payloads.get(&name).await.expect("is there"), other, "it was overwritten");
        let error = error().await;
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(&name.to_string()), "{error}");
    }
    payloads.delete(&name).await.expect("deletes");
    let error = error().await;
    let is_missing = matches!(error, StoreError::Corrupt { .. }) && error.to_string().contains("is missing");
    assert!(is_missing, "{error:?}");

    // Another program has copied the object into the bucket, so it has another checksum, or none.
    damage(&client, &bucket, &name, &content).await;
    payloads.put(&name, content.into()).await.expect("has the content");
    assert_eq!(read_all(&store, Read::all(stream)).await.commits[0].events, [large(1)]);
}

/// An append that dies after it has stored its object leaves an orphan, which two sweeps delete. Other objects stay.
#[tokio::test]
#[ignore = "needs an S3-compatible server: `just test-services`"]
async fn the_object_of_an_append_that_died_is_swept() {
    let payloads = payloads().await;
    let store = store(payloads.clone()).await;
    let (kept, died) = (new_stream(), new_stream());
    let append = |stream, seed| Append::new(stream, ExpectedVersion::NoStream, new_commit(vec![large(seed)]));
    store.append(&append(kept.clone(), 1)).await.expect("appends");
    let object = name_of(large(2).payload());
    payloads.put(&object, large(2).payload().to_owned().into()).await.expect("stores");

    let clock = ManualClock::at(Utc::now());
    let sweep = async || {
        let reconciler = Reconciler::builder(&store).build();
        reconciler.sweep_payloads(SweepOptions::new().with_clock(clock.clone())).await.expect("sweeps")
    };
    assert_eq!(sweep().await.closed.len(), 0, "it is young");
    clock.advance(TimeDelta::days(2));
    assert_eq!(sweep().await.closed, [object.clone()].into());
    clock.advance(TimeDelta::hours(1));
    assert_eq!(sweep().await.deleted, [object.clone()].into());
    assert!(matches!(payloads.get(&object).await, Err(PayloadError::Missing { .. })));
    assert_eq!(read_all(&store, Read::all(kept)).await.commits[0].events, [large(1)]);

    // The command is executed after all, and stores its object under another name.
    store.append(&append(died.clone(), 2)).await.expect("appends");
    assert_eq!(read_all(&store, Read::all(died)).await.commits[0].events, [large(2)]);
    assert!(payloads.get(&object.next_generation()).await.is_ok());
}

/// Nothing is written to the table if the bucket does not exist, and the error says what to do.
#[tokio::test]
#[ignore = "needs an S3-compatible server: `just test-services`"]
async fn a_missing_bucket_is_named() {
    let client = S3Payloads::client_at(endpoint());
    let store = store(S3Payloads::new(client, "es-tests-no-such-bucket")).await;
    let stream = new_stream();
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(vec![large(1)]));
    let AppendError::Store(error) = store.append(&append).await.expect_err("no bucket") else { panic!() };
    assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
    let text = error_text(&error);
    assert!(text.contains("the bucket `es-tests-no-such-bucket` does not exist: create it"), "{text}");
    assert!(read_all(&store, Read::all(stream.clone())).await.commits.is_empty());
    // Other events are not affected.
    let small = Append::new(stream, ExpectedVersion::NoStream, new_commit(events(1)));
    store.append(&small).await.expect("appends");
}

type Actions = BTreeSet<String>;

/// Records the actions that requests to S3 need, and forwards the requests.
#[derive(Clone, Debug)]
struct Recorder {
    way: SharedHttpConnector,
    actions: Arc<Mutex<Actions>>,
}

impl HttpConnector for Recorder {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let action = match request.method() {
            "PUT" => "s3:PutObject",
            "DELETE" => "s3:DeleteObject",
            "GET" if request.uri().contains("list-type=2") => "s3:ListBucket",
            "GET" | "HEAD" => "s3:GetObject",
            other => panic!("an unexpected method: {other}"),
        };
        self.actions.lock().expect("no panic before").insert(action.to_owned());
        self.way.call(request)
    }
}

/// The templates permit the requests of each feature, and no others. `s3:ListBucket` is also needed to tell missing
/// objects from denied access.
#[tokio::test]
#[ignore = "needs an S3-compatible server: `just test-services`"]
async fn the_templates_permit_the_requests_to_s3_and_no_others() {
    let (client, bucket) = bucket().await;
    let actions: Arc<Mutex<Actions>> = Arc::default();
    let recorded = Arc::clone(&actions);
    let recording = through(&client, move |way| {
        SharedHttpConnector::new(Recorder { way, actions: Arc::clone(&recorded) })
    });
    let payloads = S3Payloads::new(recording, bucket);
    let used = |more: &[&str]| {
        let mut actions = std::mem::take(&mut *actions.lock().expect("no panic before"));
        actions.extend(more.iter().map(|action| (*action).to_owned()));
        actions
    };
    let permitted = |feature: Feature| -> Actions {
        feature
            .bucket_actions()
            .iter()
            .chain(feature.object_actions())
            .map(|action| (*action).to_owned())
            .collect()
    };

    let store = store(payloads.clone()).await;
    let stream = new_stream();
    let append = |seed| Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(vec![large(seed)]));
    store.append(&append(1)).await.expect("appends");
    store.append(&append(2)).await.expect_err("is late");
    store.append(&append(1)).await.expect_err("is late, and finds its object");
    read_all(&store, Read::all(stream.clone())).await;
    assert_eq!(used(&["s3:ListBucket"]), permitted(Feature::S3));

    let clock = ManualClock::at(Utc::now() + TimeDelta::days(2));
    let mut deleted = 0;
    for _ in 0..2 {
        let options = SweepOptions::new().with_clock(clock.clone());
        let report = Reconciler::builder(&store).build().sweep_payloads(options).await.expect("sweeps");
        deleted += report.deleted.len();
        clock.advance(TimeDelta::hours(1));
    }
    assert_eq!((deleted, used(&[])), (1, permitted(Feature::PayloadSweep)));

    let accounts: Repository<Account> = Repository::new(DynamoStore::embedded().await.expect("created"));
    let archives = Archives::new(payloads, "events/archives".parse().expect("valid"));
    accounts.execute("ann", Deposit::one(500, "a")).await.expect("accepted");
    accounts.close("ann").await.expect("closes");
    accounts.archive("ann", &archives).await.expect("archives");
    accounts.restore("ann", &archives).await.expect("restores");
    assert_eq!(used(&["s3:ListBucket"]), permitted(Feature::Archives));
}
