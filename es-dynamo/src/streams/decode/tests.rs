//! Both ways to decode a response give the same result.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use chrono::DateTime;
use es_core::event::{CommitId, EventData};
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, NewCommit};
use es_core::{ExpectedVersion, Metadata, StreamId, Version};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, plain, undecoded};
use crate::streams::compression::events_compressed_if_cheaper;
use crate::streams::item::{append_items, commit_items};
use crate::streams::objects::LargePayloads;
use crate::streams::snapshot::{compressed_if_cheaper, snapshot_item};
#[cfg(feature = "aws")]
use crate::table::Table;
#[cfg(feature = "aws")]
use aws_smithy_runtime_api::client::interceptors::{Intercept, SharedInterceptor};

fn stream() -> StreamId {
    "order#1001".parse().expect("a stream")
}

fn json_of(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": base64::encode(bytes) }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(json_of).collect::<Vec<_>>() }),
        AttributeValue::M(map) => json!({ "M": json_of_all(map) }),
        other => panic!("no item holds {other:?}"),
    }
}

fn json_of_all<'a>(attributes: impl IntoIterator<Item = (&'a String, &'a AttributeValue)>) -> Value {
    attributes.into_iter().map(|(name, value)| (name.clone(), json_of(value))).collect()
}

/// Commits of one event, of several, of several items, several commits in one item, and a snapshot of them.
fn items() -> Vec<Value> {
    let time = DateTime::from_timestamp_millis(1_800_000_000_123).expect("in range");
    let events = [
        vec![EventData::new("OrderPlaced", 1, r#"{"customer":"ann \"the\" cat","lines":[1,2,3]}"#)],
        vec![EventData::new("Paid", 3, "null"), EventData::new("Paid", 1, "{\"a\":\"\u{1F980}\\n\"}")],
        vec![EventData::new("Imported", 1, format!("\"{}\"", "x".repeat(300_000))); 2],
    ];
    let mut first = Version::FIRST;
    let mut items = Vec::new();
    for (number, events) in events.into_iter().enumerate() {
        let count = events.len() as u64;
        let id = CommitId::new(Uuid::from_u128(number as u128 + 1));
        let mut commit = NewCommit::new(id, time, events);
        if number > 0 {
            commit =
                commit.with_metadata(Metadata::new().with_actor("bob").with_entry("depth", json!([[1]])));
        }
        items.extend(commit_items(&stream(), first, &commit, &[], &LargePayloads::default()).expect("fits"));
        first = first.plus(count);
    }
    let commit = |number: u128, events: usize, metadata| {
        let events = vec![EventData::new("Paid", 2, "{}"); events];
        NewCommit::new(CommitId::new(Uuid::from_u128(number)), time, events).with_metadata(metadata)
    };
    let append = Append::new(stream(), ExpectedVersion::Any, commit(11, 2, Metadata::new()));
    let append = append
        .with_following([commit(12, 1, Metadata::new().with_actor("eve")), commit(13, 3, Metadata::new())]);
    items.extend(append_items(&append, first).expect("fits"));
    let large = EventData::new("Imported", 3, format!("\"{}\\n\u{1F980}\"", "y".repeat(3_000)));
    let alone = NewCommit::new(CommitId::new(Uuid::from_u128(21)), time, vec![large.clone()]);
    let another = NewCommit::new(CommitId::new(Uuid::from_u128(22)), time, vec![large]);
    let alone = Append::new(stream(), ExpectedVersion::Any, alone);
    for append in [alone.clone(), alone.with_following([another])] {
        let item = append_items(&append, Version::new(77)).expect("fits").remove(0);
        items.push(events_compressed_if_cheaper(item));
        assert!(items.last().is_some_and(|item| item.contains_key("ez")));
    }
    let state = r#"{"total":"7"}"#.to_owned();
    let snapshot = Snapshot::from_stored(Version::new(3), time, Fingerprint::new(77), state, 99);
    items.push(snapshot_item(&stream(), &snapshot));
    let state = json!(vec!["x"; 1_000]).to_string();
    let snapshot = Snapshot::from_stored(Version::new(3), time, Fingerprint::new(77), state, 99);
    items.push(compressed_if_cheaper(snapshot_item(&stream(), &snapshot), &snapshot));
    assert!(items.last().is_some_and(|item| item.contains_key("sz")));
    items.iter().map(json_of_all).collect()
}

const TABLE: &str = "events";

/// Decodes the response with the SDK. `None` if the SDK rejects `text`, because one of its attributes is not a valid
/// value.
fn read_by_the_sdk(text: &str) -> Option<Result<Answer, String>> {
    let output = undecoded::decode(text.into())?;
    Some(Answer::of_items(TABLE, &stream(), output).map_err(|error| error.to_string()))
}

/// Decodes the response directly. `None` if it has another form.
fn read_in_one_go(text: &str) -> Option<Result<Answer, String>> {
    let decoded = plain::decode(text.as_bytes())?;
    let checked = decoded.check(TABLE, &stream()).map_err(|error| error.to_string());
    Some(checked.map(|()| decoded.answer))
}

#[test]
fn what_this_store_writes_is_read_in_one_go() {
    let items = items();
    assert_eq!(items.len(), 9, "the third commit needs two items");
    let body = json!({
        "Count": 9,
        "Items": items,
        "ScannedCount": 9,
        "LastEvaluatedKey": { "pk": { "S": "order#1001" }, "sk": { "S": "S#" } },
        "ConsumedCapacity": { "TableName": "events", "CapacityUnits": 1.5 },
    });
    for text in [body.to_string(), serde_json::to_string_pretty(&body).expect("JSON")] {
        let answer = read_in_one_go(&text).expect("it has the usual form");
        assert_eq!(Some(answer), read_by_the_sdk(&text));
    }
    let answer = read_in_one_go(&body.to_string()).expect("it has the usual form").expect("is of the stream");
    assert_eq!((answer.found.len(), answer.cost.read_units, answer.last_key.is_some()), (9, 1.5, true));
}

const TEXTS: &[&str] = &[
    "",
    "E#000000000001",
    "E#1",
    "S#",
    "Paid",
    "{}",
    "null",
    "0",
    "1",
    "12",
    "-1",
    "1e2",
    "+7",
    "4294967296",
];

/// Returns a value that may be invalid in its place.
fn other_value(random: &mut fastrand::Rng) -> Value {
    let text = *random.choice(TEXTS).expect("some");
    match random.u8(..10) {
        0 => Value::Null,
        1 => json!({ "NULL": true }),
        2 => json!({ "S": text, "N": text }),
        3 => json!({ "L": [] }),
        4 => json!({ "L": [{ "M": { "t": { "S": text }, "p": { "S": text }, "v": { "N": text } } }] }),
        5 => json!({ "M": {} }),
        6 => json!({ "B": base64::encode(text) }),
        7 => json!({ "S": text }),
        _ => json!({ "N": text }),
    }
}

fn damage(random: &mut fastrand::Rng, items: &mut [Value]) {
    let at = random.usize(..items.len());
    let names = [
        "pk", "sk", "lv", "id", "at", "md", "ev", "gc", "cf", "cl", "v", "fp", "ck", "st", "sz", "sl", "f",
        "other",
    ];
    let name = *random.choice(&names).expect("some");
    match random.u8(..9) {
        0 => drop(items[at].as_object_mut().map(|item| item.remove(name))),
        1 => {
            let name = *random.choice(&["t", "p", "v", "x"]).expect("some");
            if let Some(Value::Object(event)) = items[at].pointer_mut("/ev/L/0/M") {
                event.insert(name.to_owned(), other_value(random));
            }
        }
        2 => {
            let name = *random.choice(&["n", "i", "a", "m", "x"]).expect("some");
            if let Some(Value::Object(member)) = items[at].pointer_mut("/gc/L/1/M") {
                member.insert(name.to_owned(), other_value(random));
            }
        }
        3 => items[at] = other_value(random),
        4 => items.swap(at, 0),
        _ => {
            if let Value::Object(item) = &mut items[at] {
                item.insert(name.to_owned(), other_value(random));
            }
        }
    }
}

#[test]
fn what_is_read_in_one_go_the_sdk_reads_alike() {
    let items: Vec<_> = items().into_iter().filter(|item| item.to_string().len() < 10_000).collect();
    let (mut alike, mut left) = (0, 0);
    for seed in 0..5_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut items = items.clone();
        (0..random.u8(1..3)).for_each(|_| damage(&mut random, &mut items));
        let mut text = json!({ "Items": items, "ConsumedCapacity": { "CapacityUnits": 0.5 } }).to_string();
        match random.u8(..20) {
            0 => text = text.replacen("\"lv\"", "\"at\"", 1),
            1 => text.truncate(text.floor_char_boundary(random.usize(..text.len()))),
            _ => {}
        }
        match (read_in_one_go(&text), read_by_the_sdk(&text)) {
            (Some(answer), Some(by_the_sdk)) => {
                assert_eq!(answer, by_the_sdk, "seed {seed}: {text}");
                alike += 1;
            }
            (None, _) => left += 1,
            (Some(_), None) => {}
        }
    }
    assert!(alike > 1_000 && left > 1_000, "{alike} read alike, {left} left to the SDK");
}

/// The response to a query without results has an empty list of items. Without a list, the response is not from
/// DynamoDB.
#[test]
fn a_response_without_items_or_capacity_is_none() {
    let nothing =
        json!({ "Count": 0, "Items": [], "ScannedCount": 0, "ConsumedCapacity": { "CapacityUnits": 0.5 } });
    let is_read = |body: &Value| {
        let text = body.to_string();
        let by_the_sdk = read_by_the_sdk(&text).is_some_and(|answer| answer.is_ok());
        assert_eq!(plain::decode(text.as_bytes()).is_some(), by_the_sdk, "{text}");
        by_the_sdk
    };
    assert!(is_read(&nothing));
    for field in ["Items", "ConsumedCapacity"] {
        let mut body = nothing.clone();
        body.as_object_mut().expect("an object").remove(field);
        assert!(!is_read(&body), "{body}");
        body[field] = Value::Null;
        assert!(!is_read(&body), "{body}");
    }
    for body in [json!({}), json!({ "message": "ok" }), Value::Null, json!([])] {
        assert!(!is_read(&body), "{body}");
    }
    for text in ["", "<html>", "{\"Items\":[", "\0"] {
        assert!(plain::decode(text.as_bytes()).is_none(), "{text}");
        assert!(read_by_the_sdk(text).is_none_or(|answer| answer.is_err()), "{text}");
    }
}

#[test]
fn a_response_to_another_request_is_recognized() {
    let item = &json_of_all(&append_items(&commit_of(&stream()), Version::FIRST).expect("fits")[0]);
    let other = "order#1002".parse().expect("a stream");
    let others = &json_of_all(&append_items(&commit_of(&other), Version::FIRST).expect("fits")[0]);
    let mut keyless = item.clone();
    keyless.as_object_mut().expect("an object").remove("pk");
    let arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/events";
    for (items, table, is_read) in [
        (json!([item]), TABLE, true),
        (json!([item]), arn, true),
        (json!([]), TABLE, true),
        (json!([item]), "other", false),
        (json!([]), "other", false),
        (json!([others]), TABLE, false),
        (json!([item, others]), TABLE, false),
        (json!([keyless]), TABLE, false),
    ] {
        let consumed = json!({ "TableName": table, "CapacityUnits": 0.5 });
        let text = json!({ "Items": items, "ConsumedCapacity": consumed }).to_string();
        let by_the_sdk = read_by_the_sdk(&text).expect("can be decoded");
        assert_eq!(by_the_sdk.is_ok(), is_read, "{text}");
        assert!(read_in_one_go(&text).is_none_or(|answer| answer == by_the_sdk), "{text}");
    }
}

/// Returns an append of one event.
fn commit_of(stream: &StreamId) -> Append {
    let events = vec![EventData::new("Paid", 1, "{}")];
    let commit = NewCommit::new(CommitId::new(Uuid::from_u128(1)), DateTime::UNIX_EPOCH, events);
    Append::new(stream.clone(), ExpectedVersion::NoStream, commit)
}

#[test]
#[cfg(feature = "aws")]
fn the_usual_clients_leave_answers_undecoded() {
    let version = aws_config::BehaviorVersion::latest();
    let config = aws_config::SdkConfig::builder().behavior_version(version).build();
    let given = aws_sdk_dynamodb::Client::new(&config);
    let own = |given| Table::new(given, "events".to_owned(), undecoded::interceptor()).client;
    let names = |client: &aws_sdk_dynamodb::Client| -> Vec<String> {
        client.config().interceptors().map(|interceptor| Intercept::name(&interceptor).to_owned()).collect()
    };
    assert!(names(&given).is_empty());
    assert_eq!(names(&own(given.clone())), ["WatchAttempts", "LeaveUndecoded"]);
    let mut config = given.config().to_builder();
    config.push_interceptor(SharedInterceptor::new(Custom));
    let given = aws_sdk_dynamodb::Client::from_conf(config.build());
    assert_eq!(names(&own(given)), ["Custom", "WatchAttempts"], "it may change what is found");
}

#[cfg(feature = "aws")]
#[derive(Debug)]
struct Custom;

#[cfg(feature = "aws")]
impl Intercept for Custom {
    fn name(&self) -> &'static str {
        "Custom"
    }
}
