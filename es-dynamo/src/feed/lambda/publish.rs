//! Publishing in an AWS Lambda function.

use es_core::payloads::Payloads;
use es_core::projection::Projection;
use es_core::publish::{Envelopes, Publisher, Publishing};
use es_core::{BoxError, EventContext, StreamId};
use serde_json::{Value, json};

use super::{LambdaError, decode, records};
use crate::streams::item::Attributes;
use crate::streams::objects;
use crate::table::{Item, names};

/// Publishes the commits of an event from the table's stream. Returns the first record that Lambda has to deliver
/// again, if there is one: `{"batchItemFailures": [{"itemIdentifier": "…"}]}`.
///
/// Delivery is at least once, and in order within each stream. The trigger needs `ReportBatchItemFailures`, and a
/// `ParallelizationFactor` of 1, so that the batches of a shard are processed one after another. It may filter for sort
/// keys that start with [`COMMIT_PREFIX`](crate::names::COMMIT_PREFIX). The timeout of the function has to allow for
/// all attempts of [`Publishing::retry`].
///
/// These events have less information than those from the feed: they have no position, and if a commit did not fit into
/// one item, only its first part has the metadata. Events that are not published before the retries are exhausted, or
/// before the table's stream drops their records after 24 hours, are not published by the function. A
/// [`Projector`](es_core::Projector) with the same [`Publishing`] publishes all events, from the first one.
///
/// A record with an event in a payload store is not published, and blocks the records after it: use
/// [`publish_with_payloads`] for a table with a payload store.
///
/// # Errors
///
/// [`LambdaError::NotRecords`] when the payload has no list `Records`.
///
/// ```
/// use es_core::publish::{CloudEvents, Publisher, Publishing};
/// use es_dynamo::lambda;
/// use serde_json::{Value, json};
///
/// # async fn example(publisher: impl Publisher) -> Result<Value, Box<dyn std::error::Error>> {
/// let publishing = Publishing::new("to_kinesis", publisher, CloudEvents::source("https://shop.example/orders")?);
/// let response = lambda::publish(&publishing, json!({ "Records": [] })).await?;
/// assert_eq!(response, json!({ "batchItemFailures": [] }));
/// # Ok(response)
/// # }
/// ```
pub async fn publish<P: Publisher, E: Envelopes>(
    publishing: &Publishing<P, E>,
    event: Value,
) -> Result<Value, LambdaError> {
    publish_records(publishing, None, event).await
}

/// Like [`publish`], for a table with a payload store: the payloads of large events are read from `payloads`. The
/// settings may be those of the store.
///
/// # Errors
///
/// As [`publish`].
pub async fn publish_with_payloads<P: Publisher, E: Envelopes>(
    publishing: &Publishing<P, E>,
    payloads: &Payloads,
    event: Value,
) -> Result<Value, LambdaError> {
    publish_records(publishing, Some(payloads), event).await
}

async fn publish_records<P: Publisher, E: Envelopes>(
    publishing: &Publishing<P, E>,
    payloads: Option<&Payloads>,
    event: Value,
) -> Result<Value, LambdaError> {
    let records = records(&event)?;
    // A clone has an empty outbox.
    let mut publishing = publishing.clone();
    let mut events = Vec::new();
    let mut failed = None;
    for (place, record) in records.iter().enumerate() {
        match collect(&mut publishing, payloads, record).await {
            Ok(ids) => events.extend(ids.into_iter().map(|id| (id, place))),
            Err(error) => {
                // Lambda delivers all records from this one on again, so the rest can be skipped.
                let error = es_core::error_text(&*error);
                tracing::error!(sequence = sequence(record), error, "a record cannot be published");
                failed = Some(place);
                break;
            }
        }
    }
    if let Err(error) = publishing.flush().await {
        let error = es_core::error_text(&*error);
        tracing::error!(error, "some records were not published");
    }
    let unpublished = publishing.unpublished();
    let left = events.iter().filter(|(id, _)| unpublished.iter().any(|envelope| envelope.id() == *id));
    let first = left.map(|(_, place)| *place).chain(failed).min();
    let failures: Vec<_> =
        first.iter().map(|place| json!({ "itemIdentifier": sequence(&records[*place]) })).collect();
    Ok(json!({ "batchItemFailures": failures }))
}

/// Adds the events of a record to the batch. Returns their ids.
async fn collect<P: Publisher, E: Envelopes>(
    publishing: &mut Publishing<P, E>,
    payloads: Option<&Payloads>,
    record: &Value,
) -> Result<Vec<es_core::EventId>, BoxError> {
    // Commits never change. A manual change of an item does not publish its events again.
    if record["eventName"] != "INSERT" {
        return Ok(Vec::new());
    }
    let decoded = decode(record).ok_or("it is not a record of a table's stream")?;
    let Some(stream) = stream_of(&decoded.keys)? else { return Ok(Vec::new()) };
    let image = decoded.image.ok_or("it has no new image: set the table's stream to NEW_IMAGE")?;
    let mut part = Attributes::of(&stream, image)?.part()?;
    if !part.is_complete() {
        let payloads = payloads.ok_or("it has an event in a payload store: call `publish_with_payloads`")?;
        objects::complete(payloads, vec![&mut part]).await?;
    }
    let (filter, mut ids) = (publishing.filter(), Vec::new());
    for commit in part.commits() {
        for (index, event) in commit.events.iter().enumerate() {
            if filter.takes(&stream, event.name()) {
                let ctx = EventContext::outside_the_feed(&stream, commit, index);
                publishing.handle(event, &ctx).await?;
                ids.push(ctx.event_id());
            }
        }
    }
    Ok(ids)
}

/// Returns the stream of a commit's key, or `None` if it is the key of another item.
fn stream_of(keys: &Item) -> Result<Option<StreamId>, BoxError> {
    let text = |name| keys.get(name).and_then(|value| value.as_s().ok()).map(String::as_str);
    match (text(names::PARTITION_KEY), text(names::SORT_KEY)) {
        (None, None) => {
            tracing::warn!("skipped a record without keys, which cannot be a commit");
            Ok(None)
        }
        (Some(partition), Some(sort)) => {
            let is_commit = sort.starts_with(names::COMMIT_PREFIX) && !partition.starts_with('$');
            Ok(is_commit.then(|| partition.parse()).transpose()?)
        }
        _ => Err("its keys are not those of a table of this store".into()),
    }
}

fn sequence(record: &Value) -> &str {
    record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use es_core::RetryPolicy;
    use es_core::clock::ManualClock;
    use es_core::feed::EventFilter;
    use es_core::publish::{BatchLimits, CloudEvents, Envelope, PublishError};

    use super::*;

    /// Rejects the envelopes of one stream.
    #[derive(Debug, Default)]
    struct Broker {
        refused: Option<&'static str>,
        accepted: Mutex<Vec<String>>,
    }

    #[async_trait::async_trait]
    impl Publisher for Broker {
        fn limits(&self) -> BatchLimits {
            BatchLimits::default()
        }

        async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
            let accept = |envelope: &Envelope| {
                if self.refused == Some(envelope.stream().as_str()) {
                    return Err(PublishError::transient("on purpose"));
                }
                let text = format!("{} {}", envelope.stream(), envelope.id().version());
                self.accepted.lock().expect("no test panicked").push(text);
                Ok(())
            };
            Ok(batch.iter().map(accept).collect())
        }
    }

    /// The record of a commit of two events.
    fn record(sequence: u32, stream: &str, first: u64) -> Value {
        let keys = json!({ "pk": { "S": stream }, "sk": { "S": format!("E#{first:012}") } });
        let event = json!({ "M": { "t": { "S": "Counted" }, "p": { "S": "{}" } } });
        let mut image = keys.clone();
        image["lv"] = json!({ "N": (first + 1).to_string() });
        image["id"] = json!({ "S": "00000000-0000-0000-0000-000000000001" });
        image["at"] = json!({ "N": "1800000000123" });
        image["ev"] = json!({ "L": [event, event] });
        // Commits of different streams have different ids.
        image["id"]["S"] = format!("00000000-0000-0000-0000-{sequence:012}").into();
        json!({
            "eventName": "INSERT",
            "dynamodb": { "Keys": keys, "NewImage": image, "SequenceNumber": sequence.to_string() },
        })
    }

    async fn run(broker: Broker, records: Vec<Value>, filter: EventFilter) -> (Vec<String>, Value) {
        let broker = Arc::new(broker);
        let clock = ManualClock::at(chrono::DateTime::UNIX_EPOCH);
        let source = CloudEvents::source("/tests").expect("a source");
        let publishing = Publishing::new("to_tests", Arc::clone(&broker), source).clock(clock).only(filter);
        let publishing = publishing.retry(RetryPolicy::default().with_max_attempts(3));
        let mut answer = publish(&publishing, json!({ "Records": records })).await.expect("has records");
        let accepted = broker.accepted.lock().expect("no test panicked").clone();
        (accepted, answer["batchItemFailures"].take())
    }

    #[tokio::test]
    async fn only_commits_are_published() {
        let mut removed = record(3, "order#1", 3);
        removed["eventName"] = "REMOVE".into();
        let mut snapshot = record(4, "order#1", 5);
        snapshot["dynamodb"]["Keys"]["sk"]["S"] = "S#".into();
        let mut keyless = record(5, "order#1", 7);
        keyless["dynamodb"]["Keys"].take();
        let records = vec![record(1, "order#1", 1), record(2, "$feed#1", 1), removed, snapshot, keyless];
        let (accepted, failures) = run(Broker::default(), records, EventFilter::all()).await;
        assert_eq!((accepted, failures), (vec!["order#1 1".to_owned(), "order#1 2".to_owned()], json!([])));

        let other = EventFilter::none().with_events("order", ["Other"]);
        let (accepted, failures) = run(Broker::default(), vec![record(1, "order#1", 1)], other).await;
        assert_eq!((accepted, failures), (Vec::new(), json!([])));
    }

    /// Each of several commits in one item has its own id, time, and metadata.
    #[tokio::test]
    async fn several_commits_of_an_item_are_published() {
        let mut group = record(1, "order#1", 1);
        let image = &mut group["dynamodb"]["NewImage"];
        let first = json!({ "M": { "n": { "N": "1" }, "a": { "N": "1800000000122" } } });
        let second = json!({ "M": {
            "n": { "N": "1" },
            "i": { "S": "00000000-0000-0000-0000-000000000002" },
            "a": { "N": "1800000000123" },
            "m": { "S": "{\"actor\":\"ann\"}" },
        } });
        (image["f"], image["gc"]) = (json!({ "N": "2" }), json!({ "L": [first, second] }));

        let published = Arc::new(Mutex::new(Vec::new()));
        let envelopes = {
            let published = Arc::clone(&published);
            move |event: &es_core::event::EventData, ctx: &EventContext| {
                let (id, time, actor) = (ctx.event_id(), ctx.time(), ctx.metadata().actor());
                let text = format!("{id} {} {actor:?}", time.timestamp_millis());
                published.lock().expect("no test panicked").push(text);
                Ok(Envelope::new(event, ctx, "text/plain", ""))
            }
        };
        let publishing = Publishing::new("to_tests", Broker::default(), envelopes);
        let answer = publish(&publishing, json!({ "Records": [group] })).await.expect("has records");
        assert_eq!(answer["batchItemFailures"], json!([]));
        let expected = [
            "00000000-0000-0000-0000-000000000001/1 1800000000122 None",
            "00000000-0000-0000-0000-000000000002/2 1800000000123 Some(\"ann\")",
        ];
        assert_eq!(*published.lock().expect("no test panicked"), expected);
    }

    /// The payload of a large event is read from the payload store. Without it, the event is not published.
    #[tokio::test]
    async fn large_events_are_published_whole() {
        use es_core::payloads::{MemoryPayloads, PayloadName, PayloadPrefix, PayloadStore};

        let store = MemoryPayloads::new();
        let name = PayloadName::of(PayloadPrefix::new("events/payloads").expect("valid"), b"\"large\"");
        store.put(&name, "\"large\"".into()).await.expect("stores");
        let mut large = record(1, "order#1", 1);
        let image = &mut large["dynamodb"]["NewImage"];
        image["f"] = json!({ "N": "6" });
        image["ev"]["L"][1] = json!({ "M": {
            "t": { "S": "Counted" }, "o": { "S": name.to_string() }, "l": { "N": "7" },
        } });
        let published = Arc::new(Mutex::new(Vec::new()));
        let envelopes = {
            let published = Arc::clone(&published);
            move |event: &es_core::event::EventData, ctx: &EventContext| {
                published.lock().expect("no test panicked").push(event.payload().to_owned());
                Ok(Envelope::new(event, ctx, "text/plain", ""))
            }
        };
        let publishing = Publishing::new("to_tests", Broker::default(), envelopes);
        let event = json!({ "Records": [large] });
        let answer = publish(&publishing, event.clone()).await.expect("has records");
        assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "1" }]));
        assert!(published.lock().expect("no test panicked").is_empty());

        let payloads = Payloads::new(store.clone());
        let answer = publish_with_payloads(&publishing, &payloads, event.clone()).await.expect("has records");
        assert_eq!(answer["batchItemFailures"], json!([]));
        assert_eq!(*published.lock().expect("no test panicked"), ["{}", "\"large\""]);

        store.damage(&name, "\"other\"");
        let answer = publish_with_payloads(&publishing, &payloads, event).await.expect("has records");
        assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "1" }]));
    }

    #[tokio::test]
    async fn the_first_unpublished_record_is_returned() {
        let broker = Broker { refused: Some("order#2"), ..Broker::default() };
        let records = vec![
            record(1, "order#1", 1),
            record(2, "order#2", 1),
            record(3, "order#1", 3),
            record(4, "order#2", 3),
        ];
        let (accepted, failures) = run(broker, records, EventFilter::all()).await;
        assert_eq!(accepted, ["order#1 1", "order#1 2", "order#1 3", "order#1 4"]);
        assert_eq!(failures, json!([{ "itemIdentifier": "2" }]));
    }

    /// A broker whose client has a bug.
    #[derive(Debug)]
    struct Panicking;

    #[async_trait::async_trait]
    impl Publisher for Panicking {
        fn limits(&self) -> BatchLimits {
            BatchLimits::default()
        }

        async fn publish(&self, _: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
            panic!("a bug in the publisher")
        }
    }

    #[tokio::test]
    async fn a_panic_fails_its_records() {
        let source = CloudEvents::source("/tests").expect("a source");
        let publishing = Publishing::new("to_tests", Panicking, source);
        let answer =
            publish(&publishing, json!({ "Records": [record(1, "order#1", 1)] })).await.expect("an answer");
        assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "1" }]));

        let bug = |_: &es_core::event::EventData, _: &EventContext| panic!("a bug in the envelopes");
        let publishing = Publishing::new("to_tests", Broker::default(), bug);
        let answer =
            publish(&publishing, json!({ "Records": [record(1, "order#1", 1)] })).await.expect("an answer");
        assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "1" }]));
    }

    #[tokio::test]
    async fn an_unreadable_record_blocks_later_records() {
        let mut damaged = record(2, "order#1", 3);
        damaged["dynamodb"]["NewImage"]["ev"] = json!({ "S": "secret" });
        let records = vec![record(1, "order#1", 1), damaged, record(3, "order#1", 5)];
        let (accepted, failures) = run(Broker::default(), records, EventFilter::all()).await;
        assert_eq!(accepted, ["order#1 1", "order#1 2"]);
        assert_eq!(failures, json!([{ "itemIdentifier": "2" }]));

        let mut keys_only = record(1, "order#1", 1);
        keys_only["dynamodb"]["NewImage"].take();
        for record in [json!({ "eventName": "INSERT" }), keys_only] {
            let sequence = sequence(&record).to_owned();
            let (accepted, failures) = run(Broker::default(), vec![record], EventFilter::all()).await;
            assert_eq!((accepted, failures), (Vec::new(), json!([{ "itemIdentifier": sequence }])));
        }
    }
}
