//! `es feed`: its ends, its content, splits, the audit, and the reconciler.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::documents::{ChangeSet, DocumentKey, Documents, ExpectedDocument};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::Place;

#[tokio::test]
async fn the_audit_finds_what_the_reconciler_adds() {
    let place = Place::new("reconcile");
    place.deposit("ann", &[1, 2]).await;
    place.deposit("bob", &[3]).await;

    let audit = place.es(&["feed", "audit", "--json"]).exits(3);
    let audit: Value = serde_json::from_str(&audit).expect("JSON");
    assert_eq!((&audit["sound"], &audit["streams"], &audit["events"]), (&json!(false), &json!(2), &json!(0)));
    assert_eq!(audit["missing"][0], json!({ "stream": "account#ann", "feed": 0, "table": 2 }));
    let text = place.es(&["feed", "audit"]).exits(3);
    assert!(text.contains("missing: `account#bob` is at version 1, and at version 0 in the feed"), "{text}");

    let dry = place.es(&["feed", "reconcile", "--dry-run"]).succeeds();
    assert_eq!(dry, "would add 3 events of 2 streams to the feed\n");
    place.es(&["feed", "audit"]).exits(3);

    let done = place.es(&["feed", "reconcile", "--json"]).json();
    assert_eq!((&done["commits"], &done["events_indexed"]), (&json!(3), &json!(3)));
    let sound = place.es(&["feed", "audit"]).succeeds();
    assert!(sound.contains("the feed has every event once and in order"), "{sound}");
    let again = place.es(&["feed", "reconcile"]).succeeds();
    assert!(again.contains("read 3 commits, and added 0 events"), "{again}");
}

#[tokio::test]
async fn contradictions_say_what_to_do() {
    let place = Place::new("contradictions");
    place.deposit("ann", &[1]).await;
    place.es(&["feed", "reconcile"]).succeeds();
    let store = place.store().await;
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let key =
        |stream: &str| HashMap::from([("pk".into(), text(stream)), ("sk".into(), text("E#000000000001"))]);
    // A commit is deleted and recorded again, and another one is overwritten.
    let delete = store.client().delete_item().table_name(store.table_name());
    delete.set_key(Some(key("account#ann"))).send().await.expect("deletes");
    place.deposit("ann", &[2]).await;
    for command in ["audit", "reconcile"] {
        let found = place.es(&["feed", command]).exits(3);
        assert!(
            found.contains("contradict") && found.contains("\"Backup and restore\" says what to do"),
            "{found}"
        );
        assert!(!found.contains("damaged"), "{found}");
    }
    let put = store.client().put_item().table_name(store.table_name());
    put.set_item(Some(key("account#bob"))).send().await.expect("writes");
    for command in ["audit", "reconcile"] {
        let found = place.es(&["feed", command]).exits(3);
        assert!(found.contains("`account#bob`"), "{found}");
        assert!(found.contains("restore or correct the items of the damaged streams"), "{found}");
    }
}

/// Its checkpoints look as if there was nothing left to do.
#[tokio::test]
async fn a_feed_that_is_behind_its_consumers_shows_in_every_list() {
    let place = Place::new("behind");
    place.es(&["table", "create", "--slices", "1"]).succeeds();
    place.deposit("ann", &[1, 2]).await;
    place.project().await.expect("handles all");
    let store = place.store().await;
    let query = store.client().query().table_name(store.table_name()).key_condition_expression("pk = :pk");
    let pages = query.expression_attribute_values(":pk", AttributeValue::S("$feed#0".into())).send().await;
    for mut page in pages.expect("reads").items.expect("is there") {
        page.retain(|name, _| ["pk", "sk"].contains(&name.as_str()));
        let delete = store.client().delete_item().table_name(store.table_name()).set_key(Some(page));
        delete.send().await.expect("deletes");
    }
    let listed = place.es(&["projection", "list", "--json"]).json();
    assert_eq!((&listed[0]["state"], &listed[0]["stopped_slices"]), (&json!("stopped"), &json!([0])));
    assert!(place.es(&["projection", "list"]).succeeds().contains("stopped"));
    let lag = place.es(&["feed", "lag", "--json"]).json();
    assert_eq!(lag["consumers"][0]["state"], "stopped");
    let progress = place.es(&["projection", "progress", "mails", "--check"]).exits(3);
    assert!(
        progress.contains("(no automatic retry)\n  slice 0 of the feed ends at position 0"),
        "{progress}"
    );
}

#[tokio::test]
async fn the_feed_is_shown_in_its_order() {
    let place = Place::new("feed");
    place.es(&["table", "create", "--slices", "1"]).succeeds();
    place.deposit("ann", &[1, 2, 3]).await;
    place.project().await.expect("handles all");

    let lag = place.es(&["feed", "lag", "--json"]).json();
    assert_eq!(lag["slices"], json!([{ "slice": 0, "end": 3, "children": null }]));
    assert_eq!((&lag["consumers"][0]["name"], &lag["consumers"][0]["lag"]), (&json!("mails"), &json!(0)));
    place.deposit("ann", &[4]).await;
    place.es(&["feed", "reconcile"]).succeeds();
    let lag = place.es(&["feed", "lag"]).succeeds();
    let last: Vec<&str> = lag.lines().last().expect("a line").split_whitespace().collect();
    assert_eq!(last, ["mails", "projection", "1"], "{lag}");

    let text = place.es(&["--json", "feed", "show", "0", "--after", "1", "--limit", "2"]).succeeds();
    let positions: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["position"].clone())
        .collect();
    assert_eq!(positions, [2, 3]);
    let text = place.es(&["feed", "show", "0"]).succeeds();
    assert_eq!(text.lines().count(), 5, "{text}");
    let missing = place.es(&["feed", "show", "1"]).fails(1);
    assert!(missing.contains("slice 1 does not exist: `feed lag` lists all slices"), "{missing}");
}

#[tokio::test]
async fn commits_that_are_gone_are_passed_over_with_consent() {
    let place = Place::new("gone");
    place.deposit("ann", &[1, 2]).await;
    place.es(&["feed", "reconcile"]).succeeds();
    place.es(&["feed", "pass-over", "account#ann"]).fails(4);
    let dry = place.es(&["feed", "pass-over", "account#ann", "--dry-run"]).succeeds();
    assert!(dry.contains("pass over the commits of `account#ann` up to version 2"), "{dry}");
    let beyond = place.es(&["feed", "pass-over", "account#ann", "--through", "3", "--yes"]).fails(1);
    assert!(beyond.contains("the feed has the stream `account#ann` up to version 2"), "{beyond}");
    let unknown = place.es(&["feed", "pass-over", "account#bob"]).fails(1);
    assert!(
        unknown.contains("the feed has no events of the stream `account#bob`: check its name"),
        "{unknown}"
    );
    let done = place.es(&["feed", "pass-over", "account#ann", "--yes", "--json"]).json();
    assert_eq!(done, json!({ "stream": "account#ann", "through": 2 }));
}

#[tokio::test]
async fn a_slice_is_split_with_consent() {
    let place = Place::new("split");
    place.deposit("ann", &[1, 2]).await;
    place.es(&["feed", "reconcile"]).succeeds();
    let refused = place.es(&["feed", "split", "0"]).fails(4);
    assert!(
        refused.contains("this would split slice 0 of the feed in two, which cannot be undone"),
        "{refused}"
    );
    let dry = place.es(&["feed", "split", "0", "--dry-run"]).succeeds();
    assert_eq!(dry, "would split slice 0 of the feed in two\n");
    let missing = place.es(&["feed", "split", "1", "--yes"]).fails(1);
    assert!(missing.contains("slice 1 does not exist"), "{missing}");

    // An old worker and an old indexer.
    place.project().await.expect("handles all");
    let store = place.store().await;
    let old = "00000000-0000-0000-0000-000000000007";
    let documents = [
        ("projection#mails", format!("worker#{old}"), json!({ "run": old })),
        ("$indexer", "shard/1".to_owned(), json!({ "after": null, "done": false, "owner": old, "at": 1 })),
    ];
    for (collection, name, body) in &documents {
        let key = DocumentKey::new(*collection, name.as_str());
        let set = ChangeSet::new(Uuid::new_v4()).put(key, ExpectedDocument::Absent, body.to_string());
        store.change(&set).await.expect("stores");
    }
    let refused = place.es(&["feed", "split", "0", "--yes"]).fails(1);
    let expected = format!(
        "these run a version that stops at a split: 1 worker of `mails`, the indexer {old}; update them first, or pass \
         `--anyway` if they have ended"
    );
    assert!(refused.contains(&expected), "{refused}");

    let done = place.es(&["feed", "split", "0", "--anyway", "--yes", "--json"]).json();
    assert_eq!(done, json!({ "slice": 0, "end": 2, "children": [1, 2] }));
    let again = place.es(&["feed", "split", "0"]).succeeds();
    assert!(again.starts_with("slice 0 was split before at position 2"), "{again}");

    place.deposit("ann", &[3]).await;
    for id in ["bob", "eve", "kim", "lou", "max", "zoe"] {
        place.deposit(id, &[1]).await;
    }
    place.es(&["feed", "reconcile"]).succeeds();
    let lag = place.es(&["feed", "lag", "--json"]).json();
    assert_eq!(lag["slices"][0], json!({ "slice": 0, "end": 2, "children": [1, 2] }));
    let end = |slice: usize| lag["slices"][slice]["end"].as_u64().expect("a position");
    assert!(end(1) + end(2) == 7 && end(1) > 0 && end(2) > 0, "{lag}");
    let text = place.es(&["feed", "lag"]).succeeds();
    assert!(text.contains("split into 1 and 2") && text.contains("open"), "{text}");
    let shown = place.es(&["feed", "show", "1", "--json"]).succeeds();
    assert!(shown.starts_with('{') && shown.contains("\"position\":1"), "{shown}");
    place.es(&["feed", "audit"]).succeeds();
    let exported = place.es(&["stream", "export", "--all", "--json"]).succeeds();
    assert_eq!(exported.lines().count(), 9, "{exported}");
}
