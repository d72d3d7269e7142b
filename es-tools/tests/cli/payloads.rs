//! `es payload`, and large events in other commands.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::payloads::{DirectoryPayloads, PayloadName, PayloadPrefix, PayloadStore};
use es_core::prelude::*;
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;
use serde_json::json;

use crate::support::Place;

#[event]
pub(crate) struct Attached {
    text: String,
}

#[derive(Aggregate, Debug, Default)]
#[aggregate(name = "document", id = String, events(Attached))]
pub(crate) struct Document;

pub(crate) struct Attach(pub(crate) String);

#[handlers]
impl Document {
    #[apply]
    fn attached(&mut self, _: &Attached) {}

    #[handle]
    fn attach(&self, command: &Attach) -> Attached {
        Attached { text: command.0.clone() }
    }
}

#[tokio::test]
async fn orphans_are_swept_and_large_events_are_shown() {
    let place = Place::new("payloads");
    let payloads = DirectoryPayloads::new(place.path("objects"));
    let engine = Engine::in_file(place.path("events.db")).expect("opens");
    let store = DynamoStore::builder().engine(&engine).payloads(payloads.clone()).build().expect("valid");
    store.create_table().await.expect("creates the table");
    let documents: Repository<Document> = Repository::new(store.clone());
    documents.execute("a", Attach("large ".repeat(100_000))).await.expect("accepted");
    let orphan = PayloadName::of(PayloadPrefix::new("events/payloads").expect("valid"), b"orphan");
    payloads.put(&orphan, "orphan".into()).await.expect("stores");

    let shown = place.es(&["--payload-store", "objects", "stream", "show", "document#a", "--payloads"]);
    assert!(shown.succeeds().contains("large large"), "the object is read");
    let without = place.es(&["stream", "show", "document#a"]).fails(1);
    assert!(without.contains("payload store"), "{without}");
    let unnamed = place.es(&["payload", "sweep"]).fails(1);
    assert!(unnamed.contains("name the payload store with `--payload-store`"), "{unnamed}");
    let other = place.es(&["--payload-store", "ftp://objects", "payload", "sweep"]).fails(1);
    assert!(other.contains("use the path of a directory, or s3://BUCKET/PREFIX"), "{other}");

    for invalid in ["s3://", "s3:///objects", "s3://bucket/../objects"] {
        let error = place.es(&["--payload-store", invalid, "payload", "sweep"]).fails(1);
        assert!(error.contains("use s3://BUCKET/PREFIX"), "{error}");
    }
    if cfg!(not(feature = "s3")) {
        let error = place.es(&["--payload-store", "s3://objects", "payload", "sweep"]).fails(1);
        assert!(error.contains("cargo install es-tools --features s3"), "{error}");
    }

    let sweep = |more: &[&str]| {
        place.es(&[&["--payload-store", "objects", "payload", "sweep", "--min-age", "0"][..], more].concat())
    };
    assert_eq!(
        sweep(&["--dry-run"]).succeeds(),
        "would delete 0 objects, and mark 1 for a later run
"
    );
    sweep(&[]).fails(4);
    let first = sweep(&["--yes", "--json"]).json();
    let objects = |report: &serde_json::Value| (report["deleted"].clone(), report["marked"].clone());
    assert_eq!(first["objects"], 2);
    assert_eq!(objects(&first), (json!([]), json!([orphan.to_string()])));
    assert_eq!(objects(&sweep(&["--yes", "--json"]).json()), (json!([]), json!([])), "it was just marked");

    // As if the first run was two hours ago.
    let text = |text: String| AttributeValue::S(text);
    let update = store.client().update_item().table_name(store.table_name());
    let update = update.key("pk", text(format!("$object#{orphan}"))).key("sk", text("O#".to_owned()));
    let update = update.update_expression("SET #at = #at - :ago").expression_attribute_names("#at", "at");
    let ago = AttributeValue::N((2 * 3_600_000).to_string());
    update.expression_attribute_values(":ago", ago).send().await.expect("updates");
    let last = sweep(&["--yes", "--json"]).json();
    assert_eq!(objects(&last), (json!([orphan.to_string()]), json!([])));
    assert!(payloads.get(&orphan).await.is_err());
    let again = sweep(&["--yes"]).succeeds();
    assert!(again.starts_with("of 1 object with "), "{again}");
    documents.load("a").await.expect("the other object is still there");
}
