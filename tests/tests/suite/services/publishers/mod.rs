//! Publishing to EventBridge, SNS, and SQS.

mod batches;
mod broker;
mod envelopes;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName::{self, FifoQueue, QueueArn};
use es_core::clock::{Clock, SystemClock};
use es_core::event::{CommitId, EventData};
use es_core::projection::OnFailure;
use es_core::publish::{CloudEvents, Publisher, Publishing};
use es_core::store::{Append, NewCommit};
use es_core::{EventStore, ExpectedVersion, MemoryStore, Projector, RetryPolicy, StreamId};
use es_dynamo::publishers::{EventBridgePublisher, SnsPublisher, SqsPublisher};
use serde_json::Value;
use uuid::Uuid;

use super::endpoint;

/// A queue that receives events.
struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
    arn: String,
}

impl Queue {
    async fn create(suffix: &str) -> Self {
        Self::create_named(&format!("es-tests-{}{suffix}", Uuid::new_v4())).await
    }

    async fn create_named(name: &str) -> Self {
        let client = SqsPublisher::client_at(endpoint());
        let fifo = name.ends_with(".fifo").then(|| (FifoQueue, "true".to_owned()));
        let attributes: std::collections::HashMap<QueueAttributeName, String> = fifo.into_iter().collect();
        let request = client.create_queue().queue_name(name).set_attributes(Some(attributes));
        let url = request.send().await.expect("creates the queue").queue_url.expect("has a URL");
        let attributes = client.get_queue_attributes().queue_url(&url).attribute_names(QueueArn).send().await;
        let attributes = attributes.expect("describes the queue").attributes.expect("has attributes");
        let arn = attributes[&QueueArn].clone();
        Self { client, url, arn }
    }

    /// Receives and deletes all messages.
    async fn bodies(&self) -> Vec<Value> {
        let mut bodies = Vec::new();
        loop {
            let received = self.client.receive_message().queue_url(&self.url).max_number_of_messages(10);
            let received = received.send().await.expect("answers");
            if received.messages().is_empty() {
                return bodies;
            }
            for message in received.messages() {
                bodies.push(serde_json::from_str(message.body().expect("has a body")).expect("is JSON"));
                let receipt = message.receipt_handle().expect("has a handle");
                let deleted = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt);
                deleted.send().await.expect("deletes the message");
            }
        }
    }
}

async fn append(store: &MemoryStore, stream: &StreamId, payload: &str) {
    let id = CommitId::new(Uuid::now_v7());
    let events = vec![EventData::new("Counted", 1, payload)];
    let commit = NewCommit::new(id, SystemClock.now(), events);
    store.append(&Append::new(stream.clone(), ExpectedVersion::Any, commit)).await.expect("appends");
}

fn stream(number: usize) -> StreamId {
    StreamId::new("order", number).expect("a stream")
}

/// Returns the projector of a publisher, and its store: 12 streams with 4 events each.
async fn projector<P: Publisher>(publisher: P) -> Projector<Publishing<P>> {
    let store = MemoryStore::new();
    for number in 0..4 {
        for id in 0..12 {
            append(&store, &stream(id), &format!("{{\"number\":{number}}}")).await;
        }
    }
    let envelopes = CloudEvents::source("/tests").expect("a source");
    let publishing = Publishing::new("to_broker", publisher, envelopes);
    Projector::builder(store, publishing).retry(RetryPolicy::never()).build()
}

/// Returns the versions of the events of each stream, in order.
fn versions(events: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        assert_eq!(event["type"], "Counted");
        let version = event["sequence"].as_str().and_then(|text| text.parse().ok()).expect("has its version");
        versions.entry(event["subject"].as_str().expect("is text").to_owned()).or_default().push(version);
    }
    versions
}

/// Checks that all events have arrived once, in the order of their streams if `ordered`.
fn check_arrival(events: &[Value], ordered: bool) {
    let versions = versions(events);
    assert_eq!(versions.len(), 12);
    for (stream, mut versions) in versions {
        if !ordered {
            versions.sort_unstable();
        }
        assert_eq!(versions, [1, 2, 3, 4], "{stream}");
    }
}

#[tokio::test]
async fn every_event_arrives_in_an_sqs_queue() {
    for suffix in ["", ".fifo"] {
        let queue = Queue::create(suffix).await;
        let publisher = SqsPublisher::new(queue.client.clone(), &queue.url);
        projector(publisher).await.run_until_caught_up().await.expect("publishes");
        check_arrival(&queue.bodies().await, !suffix.is_empty());
    }
}

/// The second publisher has no checkpoint, so it sends all events again.
#[tokio::test]
async fn a_fifo_queue_removes_events_that_are_sent_again() {
    let queue = Queue::create(".fifo").await;
    let store = MemoryStore::new();
    append(&store, &stream(0), "{}").await;
    for name in ["first", "second"] {
        let publisher = SqsPublisher::new(queue.client.clone(), &queue.url);
        let publishing = Publishing::new(name, publisher, CloudEvents::source("/tests").expect("a source"));
        Projector::new(store.clone(), publishing).run_until_caught_up().await.expect("publishes");
    }
    assert_eq!(queue.bodies().await.len(), 1);
}

#[tokio::test]
async fn every_event_arrives_at_the_subscription_of_an_sns_topic() {
    let client = SnsPublisher::client_at(endpoint());
    for suffix in ["", ".fifo"] {
        let queue = Queue::create(suffix).await;
        let request = client.create_topic().name(format!("es-tests-{}{suffix}", Uuid::new_v4()));
        let request = if suffix.is_empty() { request } else { request.attributes("FifoTopic", "true") };
        let topic = request.send().await.expect("creates the topic").topic_arn.expect("has an ARN");
        let subscription = client.subscribe().topic_arn(&topic).protocol("sqs").endpoint(&queue.arn);
        let subscription = subscription.attributes("RawMessageDelivery", "true");
        subscription.send().await.expect("subscribes");
        let publisher = SnsPublisher::new(client.clone(), &topic);
        projector(publisher).await.run_until_caught_up().await.expect("publishes");
        check_arrival(&queue.bodies().await, !suffix.is_empty());
    }
}

/// Creates an event bus with a rule that sends the events of `source` to a queue.
async fn bus_to(queue: &Queue, bus: &str, source: &str) {
    let client = EventBridgePublisher::client_at(endpoint());
    client.create_event_bus().name(bus).send().await.expect("creates the bus");
    let pattern = serde_json::json!({ "source": [source], "detail-type": ["Counted"] }).to_string();
    let rule = client.put_rule().name("to-queue").event_bus_name(bus).event_pattern(pattern);
    rule.send().await.expect("creates the rule");
    let target = aws_sdk_eventbridge::types::Target::builder().id("queue").arn(&queue.arn).build();
    let targets = client.put_targets().rule("to-queue").event_bus_name(bus);
    targets.targets(target.expect("is complete")).send().await.expect("adds the target");
}

#[tokio::test]
async fn every_event_matches_the_rules_of_an_event_bus() {
    let queue = Queue::create("").await;
    let bus = format!("es-tests-{}", Uuid::new_v4());
    bus_to(&queue, &bus, "example.shop").await;
    let client = EventBridgePublisher::client_at(endpoint());
    let publisher = EventBridgePublisher::new(client, &bus, "example.shop");
    projector(publisher).await.run_until_caught_up().await.expect("publishes");
    let events: Vec<_> = queue.bodies().await.into_iter().map(|body| body["detail"].clone()).collect();
    check_arrival(&events, false);
}

/// Waits until the slice is delayed, and returns the error.
async fn error_of<P: Publisher>(projector: &Projector<Publishing<P>>) -> String {
    let delay = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let progress = projector.progress().await.expect("is known");
            if let Some((_, delay)) = progress.delayed().next() {
                return delay.error.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    delay.await.expect("the slice is delayed")
}

/// Runs a publisher without its destination, and again after `create`. Returns the error.
async fn waits_for<P: Publisher, T>(publisher: P, create: impl Future<Output = T>) -> (String, T) {
    let projector = projector(publisher).await;
    let running = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run_until_caught_up().await }
    });
    let error = error_of(&projector).await;
    let created = create.await;
    let published = tokio::time::timeout(Duration::from_secs(120), running).await;
    published.expect("goes on").expect("does not panic").expect("publishes");
    (error, created)
}

#[tokio::test]
async fn a_destination_that_does_not_exist_is_waited_for() {
    let name = format!("es-tests-{}", Uuid::new_v4());
    let url = format!("{}/123456789012/{name}", endpoint());
    let publisher = SqsPublisher::new(SqsPublisher::client_at(endpoint()), &url);
    let (error, queue) = waits_for(publisher, Queue::create_named(&name)).await;
    assert!(error.contains(&format!("the queue `{url}` does not exist")), "{error}");
    check_arrival(&queue.bodies().await, false);

    let arn = format!("arn:aws:sns:us-east-1:123456789012:{name}");
    let client = SnsPublisher::client_at(endpoint());
    let publisher = SnsPublisher::new(client.clone(), &arn);
    let (error, _) = waits_for(publisher, client.create_topic().name(&name).send()).await;
    assert!(error.contains(&format!("the topic `{arn}` does not exist")), "{error}");

    let client = EventBridgePublisher::client_at(endpoint());
    let publisher = EventBridgePublisher::new(client.clone(), &name, "example.shop");
    let (error, _) = waits_for(publisher, client.create_event_bus().name(&name).send()).await;
    assert!(error.contains(&format!("the event bus `{name}` does not exist")), "{error}");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_parked_and_the_others_arrive() {
    let queue = Queue::create(".fifo").await;
    let store = MemoryStore::new();
    for id in 0..3 {
        let payload = format!("\"{}\"", "x".repeat(if id == 1 { 2000 } else { 10 }));
        append(&store, &stream(id), &payload).await;
    }
    let publisher = SqsPublisher::new(queue.client.clone(), &queue.url).message_limit(2000);
    let publishing = Publishing::new("to_sqs", publisher, CloudEvents::source("/tests").expect("a source"));
    let projector = Projector::builder(store, publishing).on_failure(OnFailure::Park);
    let projector = projector.retry(RetryPolicy::never()).build();
    projector.run_until_caught_up().await.expect("publishes the others");
    let parked = projector.parked().await.expect("lists them");
    let [parked] = &parked[..] else { panic!("{} events are parked", parked.len()) };
    assert_eq!(parked.event.stream, stream(1).as_str());
    assert!(parked.error.contains("bytes, and the broker accepts at most 2000"), "{}", parked.error);
    let arrived: Vec<_> = versions(&queue.bodies().await).into_keys().collect();
    assert_eq!(arrived, ["order#0", "order#2"]);
}

#[test]
fn futures_are_send() {
    fn check<T: Send>(_: impl FnOnce() -> T) {}
    check(|| EventBridgePublisher::from_env("bus", "source"));
    check(|| SnsPublisher::from_env("arn"));
    check(|| SqsPublisher::from_env("url"));
}
