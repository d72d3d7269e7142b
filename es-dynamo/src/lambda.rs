//! Indexing and publishing by AWS Lambda functions that the table's stream triggers, instead of processes that run
//! all the time.
//!
//! The function is the application's own; this is its body, and it needs no crate but the runtime:
//!
//! ```ignore
//! let store = DynamoStore::from_env().await?;
//! lambda_runtime::run(service_fn(|event: LambdaEvent<serde_json::Value>| {
//!     let store = store.clone();
//!     async move { Ok::<_, Infallible>(es_dynamo::lambda::handle(&store, event.payload).await) }
//! }))
//! .await
//! ```
//!
//! The trigger is to have `ReportBatchItemFailures`, and may have a batch window and a filter on sort keys that
//! start with `E#`. A window of a second makes larger pages, which cost less. What the function never came to
//! see, because its retries were used up or it was switched off for a day, the reconciler finds.

mod publish;

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use es_core::StreamId;
use serde_json::{Value, json};

pub use publish::publish;

use crate::feed::{Ingest, Noted, Record};
use crate::item::Item;
use crate::store::DynamoStore;

/// Indexes the commits of an event that AWS Lambda got from the table's stream, and answers with the records that
/// have to come again: `{"batchItemFailures": [{"itemIdentifier": "…"}]}`.
///
/// All of them fail when the table cannot be reached. A record fails alone when its stream is damaged; the log
/// names it.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use es_dynamo::{DynamoStore, lambda};
/// use serde_json::json;
///
/// let store = DynamoStore::embedded().await?;
/// let answer = lambda::handle(&store, json!({ "Records": [] })).await;
/// assert_eq!(answer, json!({ "batchItemFailures": [] }));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
pub async fn handle(store: &DynamoStore, event: Value) -> Value {
    let failures: Vec<Value> = failing(store, &event)
        .await
        .into_iter()
        .map(|sequence| json!({ "itemIdentifier": sequence }))
        .collect();
    json!({ "batchItemFailures": failures })
}

/// The sequence numbers of the records that have to come again.
async fn failing(store: &DynamoStore, event: &Value) -> Vec<String> {
    let records: Vec<_> = event["Records"].as_array().into_iter().flatten().collect();
    let mut of_streams: Vec<(String, StreamId)> = Vec::new();
    let (mut hints, mut failing) = (Vec::new(), Vec::new());
    for record in records {
        let Some(record) = decode(record) else {
            let sequence = record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default();
            tracing::error!(sequence, "a record of the table's stream cannot be read");
            failing.push(sequence.to_owned());
            continue;
        };
        let sequence = record.sequence.clone();
        match record.noted() {
            Noted::Hint(hint) => {
                of_streams.push((sequence, hint.stream().clone()));
                hints.push(hint);
            }
            Noted::Nothing => {}
            Noted::Foreign => tracing::error!(sequence, "an item looks like a commit, and is of no stream"),
        }
    }
    let damaged: HashSet<StreamId> = match store.table.ingest(hints, Duration::ZERO).await {
        Ok(indexed) => indexed.damaged_streams(),
        Err(error) => {
            tracing::error!(%error, "the feed could not be written");
            of_streams.iter().map(|(_, stream)| stream.clone()).collect()
        }
    };
    let again = of_streams.into_iter().filter(|(_, stream)| damaged.contains(stream));
    failing.extend(again.map(|(sequence, _)| sequence));
    failing
}

/// A record, from the JSON that Lambda passes on.
fn decode(record: &Value) -> Option<Record> {
    let change = &record["dynamodb"];
    let image = match &change["NewImage"] {
        Value::Null => None,
        image => Some(item(image)?),
    };
    Some(Record {
        sequence: change["SequenceNumber"].as_str()?.to_owned(),
        keys: item(&change["Keys"])?,
        image,
        is_removal: record["eventName"] == "REMOVE",
    })
}

fn item(value: &Value) -> Option<Item> {
    let attribute = |(name, value): (&String, &Value)| Some((name.clone(), attribute_value(value)?));
    value.as_object()?.iter().map(attribute).collect()
}

fn attribute_value(value: &Value) -> Option<AttributeValue> {
    let object = value.as_object()?;
    let (kind, value) = object.iter().next().filter(|_| object.len() == 1)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let blob = |value: &Value| base64::decode(value.as_str()?).ok().map(Blob::new);
    Some(match kind.as_str() {
        "S" => AttributeValue::S(text(value)?),
        "N" => AttributeValue::N(text(value)?),
        "B" => AttributeValue::B(blob(value)?),
        "BOOL" => AttributeValue::Bool(value.as_bool()?),
        "NULL" => AttributeValue::Null(true),
        "SS" => AttributeValue::Ss(value.as_array()?.iter().map(text).collect::<Option<_>>()?),
        "NS" => AttributeValue::Ns(value.as_array()?.iter().map(text).collect::<Option<_>>()?),
        "BS" => AttributeValue::Bs(value.as_array()?.iter().map(blob).collect::<Option<_>>()?),
        "L" => AttributeValue::L(value.as_array()?.iter().map(attribute_value).collect::<Option<_>>()?),
        "M" => AttributeValue::M(item(value)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_attribute_is_read() {
        let image = json!({
            "s": { "S": "text" }, "n": { "N": "1" }, "b": { "B": "AQI=" }, "o": { "BOOL": true },
            "z": { "NULL": true }, "ss": { "SS": ["a"] }, "ns": { "NS": ["1"] }, "bs": { "BS": ["AQI="] },
            "l": { "L": [{ "S": "a" }, { "M": { "x": { "N": "2" } } }] },
        });
        let item = item(&image).expect("is an item");
        assert_eq!(item["b"], AttributeValue::B(Blob::new([1, 2])));
        assert_eq!(item["bs"], AttributeValue::Bs(vec![Blob::new([1, 2])]));
        assert_eq!(item.len(), 9);
        let AttributeValue::L(list) = &item["l"] else { panic!("a list") };
        assert_eq!(list[1].as_m().expect("a map")["x"], AttributeValue::N("2".to_owned()));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for record in [
            json!(null),
            json!({ "dynamodb": { "Keys": {} } }),
            json!({ "dynamodb": { "SequenceNumber": "1", "Keys": { "pk": { "X": "1" } } } }),
            json!({ "dynamodb": { "SequenceNumber": "1", "Keys": { "pk": { "S": "a", "N": "1" } } } }),
            json!({ "dynamodb": { "SequenceNumber": "1", "Keys": {}, "NewImage": { "b": { "B": "?" } } } }),
        ] {
            assert!(decode(&record).is_none(), "{record}");
        }
    }
}
