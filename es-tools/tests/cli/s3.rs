//! `s3://BUCKET/PREFIX`, on the S3-compatible server at `ES_MOTO_ENDPOINT`, which `scripts/moto` starts.

use es_core::payloads::{PayloadName, PayloadStore};
use es_core::prelude::*;
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;
use es_dynamo::payloads::S3Payloads;
use futures_util::TryStreamExt;
use serde_json::json;

use crate::copy::{address, fill_with_objects};
use crate::payloads::{Attach, Document};
use crate::support::Place;

#[tokio::test]
#[ignore = "needs an S3-compatible server: `just test-services`"]
async fn large_events_and_archives_are_in_a_bucket() {
    let endpoint = std::env::var("ES_MOTO_ENDPOINT").expect("`scripts/moto COMMAND` starts a server");
    let client = S3Payloads::client_at(&endpoint);
    client.create_bucket().bucket("es-tools").send().await.expect("creates the bucket");
    let payloads =
        S3Payloads::new(client, "es-tools").with_key_prefix("production/shop".parse().expect("valid"));
    let place = Place::new("s3");
    let engine = Engine::in_file(place.path("events.db")).expect("opens");
    let store = DynamoStore::builder().engine(&engine).payloads(payloads.clone()).build().expect("valid");
    store.create_table().await.expect("creates the table");
    let documents: Repository<Document> = Repository::new(store.clone());
    documents.execute("a", Attach("large ".repeat(100_000))).await.expect("accepted");
    let orphan = PayloadName::of("events/payloads".parse().expect("valid"), b"orphan");
    payloads.put(&orphan, "orphan".into()).await.expect("stores");

    let es = |arguments: &[&str]| {
        let environment = [
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
        ];
        place.es_with(arguments, &environment)
    };
    let shop = "s3://es-tools/production/shop";
    let shown = es(&["--payload-store", shop, "stream", "show", "document#a", "--payloads"]);
    assert!(shown.succeeds().contains("large large"), "the object is read");
    let swept =
        es(&["--payload-store", shop, "payload", "sweep", "--min-age", "0", "--yes", "--json"]).json();
    assert_eq!((&swept["objects"], &swept["marked"]), (&json!(2), &json!([orphan.to_string()])));

    let archived = async || {
        let prefix = "events/archives".parse().expect("valid");
        payloads.list(&prefix).try_collect::<Vec<_>>().await.expect("lists").len()
    };
    es(&["stream", "close", "document#a", "--yes"]).succeeds();
    es(&["--payload-store", shop, "stream", "archive", "document#a", "--to", shop, "--yes"]).succeeds();
    assert_eq!(archived().await, 1);
    es(&["--payload-store", shop, "stream", "restore", "document#a", "--from", shop, "--yes"]).succeeds();
    assert_eq!(archived().await, 0);
    es(&["--payload-store", shop, "stream", "archive", "document#a", "--to", shop, "--yes"]).succeeds();
    es(&["stream", "delete", "document#a", "--archives", shop, "--yes"]).succeeds();
    assert_eq!(archived().await, 0);

    let missing = es(&["--payload-store", "s3://no-such-bucket", "payload", "sweep", "--yes"]).fails(1);
    assert!(missing.contains("the bucket `no-such-bucket` does not exist"), "{missing}");
}

#[tokio::test]
#[ignore = "needs an S3-compatible server: `just test-services`"]
async fn large_events_are_copied_between_a_bucket_and_a_directory() {
    let endpoint = std::env::var("ES_MOTO_ENDPOINT").expect("`scripts/moto COMMAND` starts a server");
    let client = S3Payloads::client_at(&endpoint);
    client.create_bucket().bucket("es-copies").send().await.expect("creates the bucket");
    let (from, to, back) = (Place::new("s3-copy"), Place::new("s3-copy-to"), Place::new("s3-copy-back"));
    let payloads = S3Payloads::new(client, "es-copies").with_key_prefix("from".parse().expect("valid"));
    fill_with_objects(&from, payloads).await;
    let environment = [
        ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ];
    let directory = to.path("objects");
    let directory = directory.to_str().expect("UTF-8");
    for (from, to, stores) in
        [(&from, &to, ["s3://es-copies/from", directory]), (&to, &back, [directory, "s3://es-copies/back"])]
    {
        to.es(&["table", "create"]).succeeds();
        let (source, target) = (address(from), address(to));
        let copy = ["--json", "copy", "--from", &source, "--to", &target];
        let stores = ["--from-payload-store", stores[0], "--to-payload-store", stores[1]];
        let copied = from.es_with(&[&copy[..], &stores].concat(), &environment).json();
        assert_eq!((&copied["copied"], &copied["verified"]), (&json!(4), &json!(true)), "{copied}");
        to.es_with(&["--payload-store", stores[3], "feed", "reconcile"], &environment).succeeds();
    }
    let show = ["--payload-store", "s3://es-copies/back", "stream", "show", "document#a", "--payloads"];
    let shown = back.es_with(&show, &environment).succeeds();
    assert!(shown.contains("larger than before larger than before") && shown.contains("small"));
}
