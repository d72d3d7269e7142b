//! Publishing to the Kinesis-compatible server at `ES_KINESIS_ENDPOINT`, which `scripts/kinesis-server` starts. Without
//! it, these tests are ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use es_core::clock::{Clock, SystemClock};
use es_core::event::{CommitId, EventData};
use es_core::publish::{CloudEvents, Publishing};
use es_core::store::{Append, NewCommit};
use es_core::{EventStore, ExpectedVersion, MemoryStore, Projector, RetryPolicy, StreamId};
use es_dynamo::publishers::KinesisPublisher;
use serde_json::Value;
use uuid::Uuid;

const ENDPOINT: &str = "ES_KINESIS_ENDPOINT";

/// A publisher to a new data stream of three shards.
async fn publisher() -> (KinesisPublisher, Client, String) {
    let url = std::env::var(ENDPOINT).unwrap_or_else(|_| {
        panic!("{ENDPOINT} names no server: `scripts/kinesis-server COMMAND` starts one and runs the command")
    });
    let name = format!("es-tests-{}", Uuid::new_v4());
    let client = KinesisPublisher::client_at(&url);
    client.create_stream().stream_name(&name).shard_count(3).send().await.expect("creates the data stream");
    for _ in 0..3_000 {
        let summary = client.describe_stream_summary().stream_name(&name).send().await.expect("describes it");
        let status = summary.stream_description_summary().expect("has a description").stream_status().clone();
        if status.as_str() == "ACTIVE" {
            return (KinesisPublisher::new(client.clone(), &name), client, name);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the data stream does not become active");
}

/// All records of the data stream, by partition key, each in order.
async fn records(client: &Client, name: &str) -> BTreeMap<String, Vec<Value>> {
    let mut records = BTreeMap::<String, Vec<Value>>::new();
    let shards = client.list_shards().stream_name(name).send().await.expect("lists the shards");
    for shard in shards.shards() {
        let start = client.get_shard_iterator().stream_name(name).shard_id(shard.shard_id());
        let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.expect("starts");
        let mut next = start.shard_iterator;
        loop {
            let page = client.get_records().set_shard_iterator(next).send().await.expect("reads");
            for record in page.records() {
                let event = serde_json::from_slice(record.data().as_ref()).expect("is JSON");
                let key = record.partition_key().expect("has a key").to_owned();
                records.entry(key).or_default().push(event);
            }
            next = page.next_shard_iterator;
            if page.records.is_empty() || next.is_none() {
                break;
            }
        }
    }
    records
}

async fn append(store: &MemoryStore, stream: &StreamId, events: usize) {
    let event = |number| EventData::new("Counted", 1, format!("{{\"number\":{number}}}"));
    let events = (0..events).map(event).collect();
    let commit = NewCommit::new(CommitId::new(Uuid::now_v7()), SystemClock.now(), events);
    store.append(&Append::new(stream.clone(), ExpectedVersion::Any, commit)).await.expect("appends");
}

#[tokio::test]
#[ignore = "needs a Kinesis-compatible server: `just test-kinesis`"]
async fn every_event_arrives_in_the_order_of_its_stream() {
    for relaxed in [false, true] {
        let (publisher, client, name) = publisher().await;
        let publisher = if relaxed { publisher.relaxed_order() } else { publisher };
        let store = MemoryStore::new();
        let streams: Vec<_> = (0..20).map(|id| StreamId::new("order", id).expect("a stream")).collect();
        for round in 1..=3 {
            for stream in &streams {
                append(&store, stream, round).await;
            }
        }
        let envelopes = CloudEvents::source("/tests").expect("a source");
        let projector = Projector::new(store, Publishing::new("to_kinesis", publisher, envelopes));
        projector.run_until_caught_up().await.expect("publishes");

        let records = records(&client, &name).await;
        assert_eq!(records.len(), streams.len());
        for (key, events) in records {
            let versions: Vec<_> =
                events.iter().map(|event| event["sequence"].as_str().expect("a text")).collect();
            let expected: Vec<_> = (1..=6).map(|version| format!("{version:012}")).collect();
            assert_eq!(versions, expected, "{key}");
            assert!(events.iter().all(|event| event["subject"] == *key && event["type"] == "Counted"));
        }
    }
}

#[tokio::test]
#[ignore = "needs a Kinesis-compatible server: `just test-kinesis`"]
async fn a_data_stream_that_is_not_there_is_waited_for() {
    let (_, client, name) = publisher().await;
    let missing = format!("{name}-later");
    let store = MemoryStore::new();
    append(&store, &StreamId::new("order", 1).expect("a stream"), 1).await;
    let publisher = KinesisPublisher::new(client.clone(), &missing);
    let envelopes = CloudEvents::source("/tests").expect("a source");
    let publishing = Publishing::new("to_kinesis", publisher, envelopes);
    let projector = Projector::builder(store, publishing).retry(RetryPolicy::never()).build();
    let running = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run_until_caught_up().await }
    });
    let delay = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let progress = projector.progress().await.expect("is known");
            if let Some((_, delay)) = progress.delayed().next() {
                return delay.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let error = delay.await.expect("the slice is delayed").error;
    assert!(error.contains(&format!("the data stream `{missing}` does not exist")), "{error}");

    client
        .create_stream()
        .stream_name(&missing)
        .shard_count(1)
        .send()
        .await
        .expect("creates the data stream");
    let published = tokio::time::timeout(Duration::from_secs(120), running).await;
    published.expect("goes on").expect("does not panic").expect("publishes");
    assert_eq!(records(&client, &missing).await.len(), 1);
}
