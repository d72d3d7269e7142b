//! CloudEvents: properties of the encoding of arbitrary events.

use chrono::DateTime;
use es_core::event::{CommitId, EventData};
use es_core::feed::{FeedEntry, Position, Slice};
use es_core::publish::{CloudEvents, Envelopes};
use es_core::store::Commit;
use es_core::{EventContext, Metadata, StreamId, Version};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no other", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Returns a feed entry with a commit of one event.
fn entry(stream: StreamId, event: EventData, metadata: Metadata, version: u64, position: u64) -> FeedEntry {
    let id = CommitId::new(Uuid::from_u128(7));
    let time = DateTime::from_timestamp_millis(1_800_000_000_123).expect("valid");
    let commit = Commit::new(id, Version::new(version), time, vec![event]).with_metadata(metadata);
    FeedEntry::new(Position::new(position), stream, commit)
}

/// Returns whether the specification allows the text as the value of an attribute.
fn is_allowed(text: &str) -> bool {
    let noncharacter = |code: u32| (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE;
    !text.is_empty() && !text.chars().any(|char| char.is_control() || noncharacter(char.into()))
}

proptest! {
    #[test]
    fn a_cloud_event_says_all_of_any_event(
        payload in any_json(),
        (name, id) in ("\\PC{1,20}", any::<String>().prop_filter("an id", |id| (1..500).contains(&id.len()))),
        (actor, correlation) in (any::<Option<String>>(), any::<Option<String>>()),
        (version, schema) in (1..1_000_000_000_000_u64, 1..i32::MAX as u32),
        position in any::<u64>(),
    ) {
        let stream = StreamId::new("order", &id).expect("a stream");
        let mut metadata = Metadata::new();
        if let Some(actor) = &actor { metadata = metadata.with_actor(actor.clone()); }
        if let Some(correlation) = &correlation { metadata = metadata.with_correlation(correlation.clone()); }
        let stored = payload.to_string();
        let entry = entry(stream.clone(), EventData::new(name.clone(), schema, stored.clone()), metadata, version, position);
        let ctx = EventContext::of(&entry, 0, Slice::new(3));

        let envelopes = CloudEvents::source("https://shop.example/orders").expect("a source")
            .type_prefix("example.shop.")
            .schemas("https://shop.example/schemas/").expect("an address")
            .extension("tenant", |event, _| Some(event.version().to_string())).expect("a name");
        let envelope = envelopes.envelope(&entry.commit.events[0], &ctx).expect("an envelope");
        let read: Value = serde_json::from_slice(envelope.body()).expect("is JSON");
        let object = read.as_object().expect("is an object");

        for attribute in ["specversion", "id", "source", "type"] {
            prop_assert!(object[attribute].as_str().is_some_and(|text| !text.is_empty()), "{}", attribute);
        }
        for (attribute, value) in object.iter().filter(|(attribute, _)| *attribute != "data") {
            let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            prop_assert!(attribute.len() <= 20 && attribute.bytes().all(lower), "{}", attribute);
            let integer = value.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            prop_assert!(integer || value.as_str().is_some_and(is_allowed), "{} is {}", attribute, value);
        }
        prop_assert_eq!(&object["specversion"], "1.0");
        prop_assert_eq!(&object["id"], &Value::from(ctx.event_id().to_string()));
        prop_assert_eq!(&object["time"], "2027-01-15T08:00:00.123Z");
        prop_assert_eq!(&object["sequence"], &Value::from(format!("{version:012}")));
        prop_assert_eq!(&object["schemaversion"], &Value::from(schema));
        prop_assert_eq!(object.get("position").is_some(), position > 0);
        prop_assert_eq!(object.contains_key("actor"), actor.is_some_and(|actor| !actor.is_empty()));
        prop_assert_eq!(object.contains_key("correlationid"), correlation.is_some_and(|text| !text.is_empty()));
        prop_assert_eq!(&object["data"], &payload);
        // Byte for byte, not only equivalent.
        let body = std::str::from_utf8(envelope.body()).expect("is UTF-8");
        let suffix = format!(",\"data\":{stored}}}");
        prop_assert!(body.ends_with(&suffix));
        prop_assert_eq!((envelope.stream(), envelope.name()), (&stream, name.as_str()));
    }
}

#[test]
fn a_payload_goes_through_as_it_is_stored() {
    let stored = r#" {"large": 123456789012345678901234567890, "exact": 1.10, "a": 1, "a": 2} "#;
    let stream = StreamId::new("order", 1).expect("a stream");
    let entry = entry(stream, EventData::new("Counted", 1, stored), Metadata::new(), 1, 1);
    let ctx = EventContext::of(&entry, 0, Slice::new(0));
    let json = CloudEvents::source("/tests").expect("a source").json(&entry.commit.events[0], &ctx);
    assert_eq!(
        json.expect("is made"),
        concat!(
            r#"{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000007/1","source":"/tests","#,
            r#""type":"Counted","subject":"order#1","time":"2027-01-15T08:00:00.123Z","#,
            r#""datacontenttype":"application/json","sequence":"000000000001","partitionkey":"order#1","#,
            r#""schemaversion":1,"slice":0,"position":"1","#,
            r#""data": {"large": 123456789012345678901234567890, "exact": 1.10, "a": 1, "a": 2} }"#
        )
    );
}

#[test]
fn what_is_no_json_is_refused_without_a_quotation() {
    for damaged in ["", "{", "secret", "1,2", "\"\n\""] {
        let stream = StreamId::new("order", 1).expect("a stream");
        let entry = entry(stream, EventData::new("Counted", 1, damaged), Metadata::new(), 1, 1);
        let ctx = EventContext::of(&entry, 0, Slice::new(0));
        let error = CloudEvents::source("/tests").expect("a source").json(&entry.commit.events[0], &ctx);
        let error = error.expect_err("is refused").to_string();
        assert!(
            error
                .starts_with("the payload of the event `Counted` (schema version 1) does not match its type"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn settings_that_break_the_specification_are_refused() {
    assert_eq!(
        CloudEvents::source("my shop").expect_err("is none").to_string(),
        "`my shop` is not a valid source: pass a URI reference such as https://shop.example/orders"
    );
    let envelopes = CloudEvents::source("/shop").expect("a source");
    assert!(envelopes.clone().schemas("/schemas/").is_err());
    for name in ["", "Tenant", "tenant_id", "data", "sequence", "abcdefghijklmnopqrstu"] {
        assert!(envelopes.clone().extension(name, |_, _| None).is_err(), "{name}");
    }
    let twice = envelopes.extension("tenant", |_, _| None).expect("a name").extension("tenant", |_, _| None);
    assert_eq!(
        twice.expect_err("is taken").to_string(),
        "`tenant` is not a valid extension name: use 1 to 20 lowercase letters and digits, and a name that is not \
         used yet"
    );
}
