//! Publishing to a simulated Kinesis: the requests, and the meaning of the responses.

#![cfg(feature = "kinesis")]

mod fake;

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use chrono::DateTime;
use es_core::clock::ManualClock;
use es_core::event::{CommitId, EventData};
use es_core::publish::{CloudEvents, Envelope, Envelopes, Outbox, PublishError, Publisher};
use es_core::store::Commit;
use es_core::{EventContext, RetryPolicy, StreamId, Version};
use es_dynamo::publishers::KinesisPublisher;
use serde_json::Value;
use uuid::Uuid;

use self::fake::{Act, Fake};

fn stream(number: usize) -> StreamId {
    StreamId::new("order", number).expect("a stream")
}

fn envelope(stream: &StreamId, version: u64, bytes: usize) -> Envelope {
    let id = CommitId::new(Uuid::from_u128(version.into()));
    let event = EventData::new("Counted", 1, format!("\"{}\"", "x".repeat(bytes)));
    let commit = Commit::new(id, Version::new(version), DateTime::UNIX_EPOCH, vec![event]);
    let ctx = EventContext::outside_the_feed(stream, &commit, 0);
    let envelopes = CloudEvents::source("/tests").expect("a source");
    envelopes.envelope(&commit.events[0], &ctx).expect("an envelope")
}

fn clock() -> ManualClock {
    ManualClock::at(DateTime::UNIX_EPOCH)
}

/// Publishes three events of each of three streams.
async fn send(publisher: &KinesisPublisher) -> Result<(), String> {
    let mut outbox = Outbox::new();
    for version in 1..=3 {
        for number in 0..3 {
            outbox.push(envelope(&stream(number), version, 9), publisher).expect("is small");
        }
    }
    let patient = RetryPolicy::default().with_max_attempts(1000);
    outbox.send(publisher, patient, &clock()).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn streams_share_requests_until_one_has_another_event() {
    let fake = Fake::new(|_, _| Act::Accept);
    send(&KinesisPublisher::new(fake.client(), "orders")).await.expect("is accepted");
    assert_eq!(fake.operations()[0], "PutRecords 3");
    assert_eq!(fake.operations()[1..], ["PutRecord 1"; 6]);

    let fake = Fake::new(|_, _| Act::Accept);
    send(&KinesisPublisher::new(fake.client(), "orders").relaxed_order()).await.expect("is accepted");
    assert_eq!(fake.operations(), ["PutRecords 3"; 3]);
}

#[tokio::test]
async fn a_record_contains_its_envelope() {
    let fake = Fake::new(|_, _| Act::Accept);
    let publisher = KinesisPublisher::new(fake.client(), "orders");
    let envelope = envelope(&stream(1), 1, 9);
    let outcomes = publisher.publish(std::slice::from_ref(&envelope)).await.expect("is answered");
    assert!(outcomes[0].is_ok());
    let records = fake.records();
    assert_eq!((records[0].key.as_str(), records[0].data.as_slice()), ("order#1", envelope.body()));
    assert_eq!(fake.bodies()[0]["StreamName"], "orders");
    assert_eq!(fake.bodies()[0]["StreamARN"], Value::Null);

    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";
    let fake = Fake::new(|_, _| Act::Accept);
    let publisher = KinesisPublisher::new(fake.client(), arn);
    publisher.publish(std::slice::from_ref(&envelope)).await.expect("is answered")[0]
        .as_ref()
        .expect("is accepted");
    assert_eq!(fake.bodies()[0]["StreamARN"], arn);
    assert_eq!(fake.bodies()[0]["StreamName"], Value::Null);
}

#[tokio::test]
async fn only_failed_records_are_sent_again() {
    let fake = Fake::new(|request, place| match (request, place) {
        (0, 1) => Act::Refuse,
        _ => Act::Accept,
    });
    let publisher = KinesisPublisher::new(fake.client(), "orders").relaxed_order();
    let mut outbox = Outbox::new();
    for number in 0..3 {
        outbox.push(envelope(&stream(number), 1, 9), &publisher).expect("is small");
    }
    outbox.send(&publisher, RetryPolicy::default(), &clock()).await.expect("is accepted in the end");
    assert_eq!(fake.operations(), ["PutRecords 3", "PutRecords 1"]);
    let keys: Vec<_> = fake.records().into_iter().map(|record| record.key).collect();
    assert_eq!(keys, ["order#0", "order#2", "order#1"]);
}

/// Returns the versions of a stream's records in order, without repetitions.
fn versions(fake: &Fake, stream: &StreamId) -> Vec<u64> {
    let mut versions = Vec::new();
    for record in fake.records().into_iter().filter(|record| record.key == stream.as_str()) {
        let event: Value = serde_json::from_slice(&record.data).expect("is JSON");
        let version = event["sequence"].as_str().and_then(|text| text.parse().ok()).expect("has its version");
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

#[tokio::test]
async fn the_order_of_each_stream_survives_any_failure() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let fake = Fake::new(move |_, _| match random.u8(0..20) {
            0 => Act::LoseRequest,
            1 => Act::LoseAnswer,
            2 => Act::Throttle,
            3 => Act::Fail,
            4..8 => Act::Refuse,
            _ => Act::Accept,
        });
        let publisher = KinesisPublisher::new(fake.client(), "orders");
        let publisher = if seed % 2 == 0 { publisher.relaxed_order() } else { publisher };
        send(&publisher).await.expect("is accepted in the end");
        for number in 0..3 {
            assert_eq!(versions(&fake, &stream(number)), [1, 2, 3], "seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_sequence_number_of_another_shard_is_forgotten() {
    let fake =
        Fake::new(|request, _| if request == 1 { Act::Say("InvalidArgumentException") } else { Act::Accept });
    let publisher = KinesisPublisher::new(fake.client(), "orders");
    let mut outbox = Outbox::new();
    for version in 1..=2 {
        outbox.push(envelope(&stream(0), version, 9), &publisher).expect("is small");
    }
    outbox.send(&publisher, RetryPolicy::default(), &clock()).await.expect("is accepted in the end");
    assert_eq!(fake.operations(), ["PutRecords 1", "PutRecord 1", "PutRecords 1"]);
}

/// Returns the error for one event.
async fn refused(fake: &Fake) -> PublishError {
    let publisher = KinesisPublisher::new(fake.client(), "orders");
    let outcomes = publisher.publish(&[envelope(&stream(0), 1, 9)]).await.expect("is answered");
    outcomes.into_iter().next().expect("one").expect_err("is refused")
}

#[tokio::test]
async fn only_errors_of_records_are_permanent() {
    for (code, is_transient, expected) in [
        (
            "ResourceNotFoundException",
            true,
            "the data stream `orders` does not exist: ResourceNotFoundException: on purpose",
        ),
        ("AccessDeniedException", true, "needs the permissions kinesis:PutRecords and kinesis:PutRecord"),
        ("ExpiredTokenException", true, "ExpiredTokenException: on purpose"),
        ("KMSDisabledException", true, "KMSDisabledException: on purpose"),
        ("SomethingNew", true, "SomethingNew: on purpose"),
        ("ValidationException", false, "ValidationException: on purpose"),
        ("InvalidArgumentException", false, "InvalidArgumentException: on purpose"),
    ] {
        let fake = Fake::new(move |_, _| Act::Say(code));
        let error = refused(&fake).await;
        assert_eq!(error.is_transient(), is_transient, "{code}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(fake.operations().len(), 1, "{code}");
    }
    let fake = Fake::new(|_, _| Act::Say("ValidationException"));
    let error = send(&KinesisPublisher::new(fake.client(), "orders")).await.expect_err("is refused");
    assert!(
        error.starts_with("the event `Counted` at version 1 of `order#0` was not published: "),
        "{error}"
    );
    assert_eq!(fake.operations().len(), 1, "it is not sent again");
}

/// The second attempt of the SDK is refused, and the first one may have been accepted.
#[tokio::test]
async fn a_refusal_after_a_lost_response_is_transient() {
    let fake = Fake::new(|request, _| match request {
        0 => Act::LoseAnswer,
        _ => Act::Say("ValidationException"),
    });
    let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let client = Client::from_conf(fake.client().config().to_builder().retry_config(retries).build());
    let publisher = KinesisPublisher::new(client, "orders");
    let outcomes = publisher.publish(&[envelope(&stream(0), 1, 9)]).await.expect("is answered");
    let error = outcomes[0].as_ref().expect_err("is refused");
    assert!(error.is_transient() && error.to_string().contains("ValidationException"), "{error}");
    assert_eq!(fake.operations(), ["PutRecords 1"; 2]);
}

/// For example from a broken gateway, with the status 200.
#[tokio::test]
async fn a_response_that_is_not_from_kinesis_is_not_an_acknowledgement() {
    for body in
        ["", "{}", "null", r#"{"message":"ok"}"#, "<html>", r#"{"Records":[]}"#, r#"{"Records":[{}]}"#]
    {
        let fake = Fake::new(move |_, _| Act::Answer(body));
        assert!(refused(&fake).await.is_transient(), "{body}");
        // The second event of a stream is sent with PutRecord.
        let fake = Fake::new(move |request, _| if request == 1 { Act::Answer(body) } else { Act::Accept });
        let publisher = KinesisPublisher::new(fake.client(), "orders");
        publisher.publish(&[envelope(&stream(0), 1, 9)]).await.expect("is answered")[0]
            .as_ref()
            .expect("accepted");
        let outcomes = publisher.publish(&[envelope(&stream(0), 2, 9)]).await.expect("is answered");
        assert!(outcomes[0].as_ref().expect_err(body).is_transient(), "{body}");
        assert_eq!(fake.operations(), ["PutRecords 1", "PutRecord 1"]);
    }
}

#[tokio::test]
async fn requests_stay_within_the_limits() {
    let fake = Fake::new(|_, _| Act::Accept);
    let publisher = KinesisPublisher::new(fake.client(), "orders");
    let mut outbox = Outbox::new();
    for number in 0..600 {
        outbox.push(envelope(&stream(number), 1, 9), &publisher).expect("is small");
    }
    for number in 600..608 {
        outbox.push(envelope(&stream(number), 1, 1_000_000), &publisher).expect("is small enough");
    }
    outbox.send_once(&publisher).await.expect("is accepted");
    assert_eq!(fake.operations(), ["PutRecords 500", "PutRecords 105", "PutRecords 3"]);
}

#[test]
fn a_record_that_exceeds_a_request_is_refused() {
    let fake = Fake::new(|_, _| Act::Accept);
    let publisher = KinesisPublisher::new(fake.client(), "orders");
    let (mut outbox, large) = (Outbox::new(), envelope(&stream(0), 1, 1 << 20));
    let error = outbox.push(large.clone(), &publisher).expect_err("is too large").to_string();
    let start = "the event `Counted` at version 1 of `order#0` was not published: its message has 104";
    assert!(error.starts_with(start), "{error}");
    assert!(error.ends_with(" bytes, and the broker accepts at most 1048576"), "{error}");

    let publisher = publisher.record_limit(usize::MAX);
    assert_eq!(publisher.limits().envelope_bytes, 10 << 20);
    outbox.push(large, &publisher).expect("is not too large for a stream that takes more");
}

#[tokio::test]
async fn a_long_stream_name_is_truncated_at_its_start() {
    let fake = Fake::new(|_, _| Act::Accept);
    let publisher = KinesisPublisher::new(fake.client(), "orders");
    let long = StreamId::new("order", format!("{}ü{}", "a".repeat(200), "b".repeat(255))).expect("a stream");
    let outcomes = publisher.publish(&[envelope(&long, 1, 9)]).await.expect("is answered");
    assert!(outcomes[0].is_ok());
    assert_eq!(fake.records()[0].key, format!("ü{}", "b".repeat(255)));
}
