//! Indexing and publishing in AWS Lambda functions that the table's stream triggers, instead of in processes that run
//! permanently.
//!
//! Write the function in your application, with this body. Apart from this crate, it needs only the Lambda runtime:
//!
//! ```ignore
//! let store = &DynamoStore::from_env().await?;
//! lambda_runtime::run(service_fn(|event: LambdaEvent<serde_json::Value>| async move {
//!     Ok::<_, lambda_runtime::Error>(es_dynamo::lambda::handle(store, event.payload).await?)
//! }))
//! .await
//! ```
//!
//! The repository has complete functions in `examples/lambda`: this one, a publisher, and the commands of an HTTP API,
//! with a template for the Serverless Application Model.
//!
//! Enable `ReportBatchItemFailures` on the trigger. It may have a batch window, and a filter on sort keys that start
//! with [`COMMIT_PREFIX`](crate::names::COMMIT_PREFIX). A window of one second produces larger pages, which cost less.
//! Run the [reconciler](crate::Reconciler) if the function has missed records, because its retries were exhausted or it
//! was disabled for a day.

mod publish;

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use es_core::{StoreError, StreamId, error_text};
use serde_json::{Value, json};

use super::Ingest;
use super::log::hint::{Hint, Noted, Record};
use super::log::writer::Indexed;
use crate::store::DynamoStore;
use crate::table::Item;

pub use publish::{publish, publish_with_payloads};

/// The error of an invocation that processed no record.
///
/// Return it from the function: the invocation fails, Lambda retries the batch, and its metric `Errors` increases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LambdaError {
    /// The payload is not an event of a table's stream.
    #[error("expected an event of a DynamoDB stream, a JSON object with a list `Records`, but got {found}")]
    #[non_exhaustive]
    NotRecords {
        /// The kind of the JSON value in place of the list.
        found: &'static str,
    },
    /// The records come from the stream of another table.
    #[error(
        "the records come from the stream of the table `{found}`, but the store uses the table `{table}`: attach the \
         trigger to the stream of `{table}`, or open the store on `{found}`"
    )]
    #[non_exhaustive]
    OtherTable {
        /// The table that is the source of the records.
        found: String,
        /// The store's table.
        table: String,
    },
}

/// Adds the commits of an event from the table's stream to the feed. Returns the records that Lambda has to deliver
/// again: `{"batchItemFailures": [{"itemIdentifier": "…"}]}`.
///
/// All records fail if the table cannot be reached. If a stream is damaged, only its records fail, and an error that
/// names the stream is logged. If the commits of a stream in the table differ from those in the feed, an error is
/// logged but the records do not fail, because a retry would not help.
///
/// # Verification
///
/// A record is only a hint: the commit that the table has under the record's key is indexed. A forged record, or one
/// whose commit is not in the table, never enters the feed. The verification takes one eventually consistent
/// `BatchGetItem` per 100 commits: half a read unit for each 4 KB of a commit.
///
/// # Errors
///
/// [`LambdaError::NotRecords`] when the payload has no list `Records`, [`LambdaError::OtherTable`] when a record names
/// another table as its source (`eventSourceARN`).
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use es_dynamo::{DynamoStore, lambda};
/// use serde_json::json;
///
/// let store = DynamoStore::embedded().await?;
/// let response = lambda::handle(&store, json!({ "Records": [] })).await?;
/// assert_eq!(response, json!({ "batchItemFailures": [] }));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
pub async fn handle(store: &DynamoStore, event: Value) -> Result<Value, LambdaError> {
    let records = records(&event)?;
    let table = store.table_name();
    if let Some(found) = records.iter().filter_map(source_table).find(|found| *found != table) {
        return Err(LambdaError::OtherTable { found: found.to_owned(), table: table.to_owned() });
    }
    let failing = failing(store, records).await.into_iter();
    let failures: Vec<Value> = failing.map(|sequence| json!({ "itemIdentifier": sequence })).collect();
    Ok(json!({ "batchItemFailures": failures }))
}

/// Returns the records of a Lambda event.
fn records(event: &Value) -> Result<&[Value], LambdaError> {
    let found = match event.get("Records") {
        Some(Value::Array(records)) => return Ok(records),
        Some(other) => other,
        None => event,
    };
    Err(LambdaError::NotRecords {
        found: match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object without it",
        },
    })
}

/// Returns the table that a record names as its source.
fn source_table(record: &Value) -> Option<&str> {
    let arn = record["eventSourceARN"].as_str()?;
    let table = arn.split_once(":table/").map_or(arn, |(_, table)| table);
    Some(table.split('/').next().unwrap_or(table))
}

/// Indexes the records, and returns the sequence numbers of those that have to be delivered again.
async fn failing(store: &DynamoStore, records: &[Value]) -> Vec<String> {
    let mut of_streams: Vec<(String, StreamId)> = Vec::new();
    let (mut hints, mut failing) = (Vec::new(), Vec::new());
    for record in records {
        let Some(record) = decode(record) else {
            let sequence = record["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default();
            tracing::error!(sequence, "a record of the table's stream cannot be decoded");
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
            Noted::Keyless => {
                tracing::warn!(sequence, "skipped a record without keys, which cannot be a commit");
            }
            Noted::Foreign => {
                tracing::error!(
                    sequence,
                    "an item has the sort key of a commit, but no stream as its partition key"
                );
            }
        }
    }
    let damaged: HashSet<StreamId> = match index(store, hints).await {
        Ok(indexed) => {
            if indexed.unfounded > 0 {
                tracing::warn!(
                    records = indexed.unfounded,
                    "the commits of some records are not in the table"
                );
            }
            indexed.log(|_| false);
            indexed.damaged.into_iter().map(|(stream, _)| stream).collect()
        }
        Err(error) => {
            tracing::error!(error = error_text(&error), "the feed could not be written");
            of_streams.iter().map(|(_, stream)| stream.clone()).collect()
        }
    };
    let again = of_streams.into_iter().filter(|(_, stream)| damaged.contains(stream));
    failing.extend(again.map(|(sequence, _)| sequence));
    failing
}

/// Verifies hints against the table, and indexes the commits that it has.
async fn index(store: &DynamoStore, hints: Vec<Hint>) -> Result<Indexed, StoreError> {
    let hints = store.feed.verified(hints).await?;
    store.feed.ingest(hints, Duration::ZERO).await
}

/// Decodes a record from the JSON of Lambda.
fn decode(record: &Value) -> Option<Record> {
    let change = &record["dynamodb"];
    let image = match &change["NewImage"] {
        Value::Null => None,
        image => Some(item(image)?),
    };
    let keys = match &change["Keys"] {
        Value::Null => Item::new(),
        keys => item(keys)?,
    };
    Some(Record {
        sequence: change["SequenceNumber"].as_str()?.to_owned(),
        keys,
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
    fn all_types_of_attributes_are_decoded() {
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
    fn a_malformed_record_is_none() {
        for record in [
            json!(null),
            json!({ "dynamodb": { "Keys": {} } }),
            json!({ "dynamodb": { "Keys": null } }),
            json!({ "dynamodb": { "SequenceNumber": "1", "Keys": { "pk": { "X": "1" } } } }),
            json!({ "dynamodb": { "SequenceNumber": "1", "Keys": { "pk": { "S": "a", "N": "1" } } } }),
            json!({ "dynamodb": { "SequenceNumber": "1", "Keys": {}, "NewImage": { "b": { "B": "?" } } } }),
        ] {
            assert!(decode(&record).is_none(), "{record}");
        }
    }

    #[test]
    fn an_event_without_records_is_an_error_that_names_the_expected_payload() {
        for (event, found) in [
            (json!({}), "an object without it"),
            (json!({ "records": [] }), "an object without it"),
            (json!({ "Records": null }), "null"),
            (json!({ "Records": {} }), "an object without it"),
            (json!(null), "null"),
            (json!([1]), "a list"),
            (json!("Records"), "a string"),
        ] {
            let error = records(&event).expect_err("has no records").to_string();
            let expected =
                "expected an event of a DynamoDB stream, a JSON object with a list `Records`, but got ";
            assert_eq!(error, format!("{expected}{found}"), "{event}");
        }
    }

    #[test]
    fn the_table_of_a_record_is_taken_from_its_arn() {
        let source = |arn: Value| source_table(&json!({ "eventSourceARN": arn })).map(str::to_owned);
        let arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000";
        assert_eq!(source(json!(arn)).as_deref(), Some("orders"));
        assert_eq!(source(json!("arn:aws:sqs:eu-west-1:1:q")).as_deref(), Some("arn:aws:sqs:eu-west-1:1:q"));
        assert_eq!(source(json!(null)), None);
    }
}
