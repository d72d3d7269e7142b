//! `es copy`, between files and exports. The tests on a server are in `postgres`.

use std::path::PathBuf;

use es_core::payloads::{DirectoryPayloads, PayloadStore};
use es_core::prelude::*;
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Reconciler};
use serde_json::{Value, json};

use crate::payloads::{Attach, Document};
use crate::support::{Account, Deposit, Deposited, Place, lines};

/// A payload as a store without the keyring sees it.
const SEALED: &str = r#"{"cents":1,"name":{"$sealed":{"subject":"ann","value":"AAAA"}}}"#;

/// Records streams in all states, with claims and idempotency keys.
pub(crate) async fn fill(place: &Place) {
    let store = place.store().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    place.deposit("ann", &[5, 700, 13]).await;
    for (key, id) in [("message-1", "ann"), ("message-2", "bob")] {
        let decide = async |_: &Account, _: &Context<Account>| {
            Ok::<_, std::io::Error>(Events::from(Deposited { cents: 1 }).claim("email", id))
        };
        accounts.once(key).decide(id, decide).await.expect("accepted");
    }
    let metadata =
        Metadata::new().with_actor("bank").with_entry("branch", json!({ "b": 1, "a": [2.5, null] }));
    accounts.with_metadata(metadata).execute("bob", Deposit(u64::MAX)).await.expect("accepted");
    for id in ["closed", "deleted"] {
        place.deposit(id, &[1, 2]).await;
    }
    place.es(&["--yes", "stream", "close", "account#closed"]).succeeds();
    place.es(&["--yes", "stream", "delete", "account#deleted"]).succeeds();
    Reconciler::builder(&store).build().run().await.expect("runs");
}

/// Returns the address of the file.
pub(crate) fn address(place: &Place) -> String {
    format!("file:{}", place.path("events.db").display())
}

fn export(place: &Place) -> String {
    format!("export:{}", place.path("export.jsonl").display())
}

/// Copies, and returns the result.
fn copy(place: &Place, from: &str, to: &str) -> Value {
    place.es(&["--json", "copy", "--from", from, "--to", to]).json()
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_named() {
    let place = Place::new("copy-report");
    place.deposit("ann", &[1]).await;
    let from = format!("file:{}", place.path("events.db").display());
    let missing = place.es(&["copy", "--from", &from, "--to", &export(&place), "--report", "missing/report"]);
    let errors = missing.fails(1);
    assert!(errors.starts_with("error: missing/report: "), "{errors}");
}

/// Returns the versions and digests of the streams of a store, as a copy to an export reports them.
pub(crate) fn digests(place: &Place, from: &str) -> String {
    let (to, report) = (export(place), place.path("report.jsonl"));
    let report = report.to_str().expect("UTF-8");
    place.es(&["copy", "--from", from, "--to", &to, "--report", report]).succeeds();
    std::fs::read_to_string(report).expect("is written")
}

#[tokio::test]
async fn a_copy_has_all_streams_claims_and_keys() {
    let (from, to) = (Place::new("copy-from"), Place::new("copy-to"));
    fill(&from).await;
    to.es(&["table", "create"]).succeeds();
    let (source, target) = (address(&from), address(&to));

    let dry = from.es(&["--dry-run", "copy", "--from", &source, "--to", &target]).succeeds();
    assert_eq!(
        dry,
        "would copy 12 of 12 events, of 4 streams, and compare 2 claims and 2 idempotency keys\n"
    );
    to.es(&["stream", "show", "account#ann"]).fails(1);
    let copied = copy(&from, &source, &target);
    let expected = [
        ("streams", 4),
        ("events", 12),
        ("copied", 12),
        ("claims", 2),
        ("idempotency_keys", 2),
        ("behind", 0),
    ];
    for (name, count) in expected {
        assert_eq!(copied[name], count, "{name}: {copied}");
    }
    assert_eq!((&copied["verified"], &copied["personal_data"]), (&json!(true), &json!(false)));

    for stream in ["account#ann", "account#bob", "account#closed", "account#deleted"] {
        let show = ["--json", "stream", "show", stream, "--payloads"];
        assert_eq!(to.es(&show).succeeds(), from.es(&show).succeeds(), "{stream}");
    }
    assert_eq!(to.es(&["claim", "email", "bob"]).succeeds(), "account#bob\n");
    let key = ["--json", "key", "message-1", "--stream", "account#ann"];
    assert_eq!(to.es(&key).json(), from.es(&key).json());
    let accounts: Repository<Account> = Repository::new(to.store().await);
    for id in ["closed", "deleted"] {
        let error = accounts.execute(id, Deposit(1)).await.expect_err("has ended");
        assert!(error.closed().is_some(), "{error:?}");
    }
    // Deleting a stream of the copy frees its claims.
    to.es(&["--yes", "stream", "delete", "account#bob"]).succeeds();
    let free = to.es(&["--json", "claim", "email", "bob"]).json();
    assert!(free["holder"].is_null(), "{free}");
}

#[tokio::test]
async fn a_copy_is_continued_and_follows_the_source() {
    let (from, to) = (Place::new("copy-continued"), Place::new("copy-continued-to"));
    fill(&from).await;
    to.es(&["table", "create"]).succeeds();
    let (source, target) = (address(&from), address(&to));
    // A part of an export is a copy that was interrupted: here within a stream whose events are erased.
    from.es(&["copy", "--from", &source, "--to", &export(&from)]).succeeds();
    let text = std::fs::read_to_string(from.path("export.jsonl")).expect("is written");
    let of = |stream: &'static str| text.lines().filter(move |line| line.contains(stream));
    let part = of("account#closed").chain(of("account#deleted").take(1));
    let part: String = part.map(|line| format!("{line}\n")).collect();
    std::fs::write(from.path("part.jsonl"), part).expect("writes");
    from.es(&["copy", "--from", "export:part.jsonl", "--to", &target]).succeeds();
    let copied = copy(&from, &source, &target);
    assert_eq!((&copied["events"], &copied["verified"]), (&json!(12), &json!(true)));
    assert!(copied["copied"].as_u64().is_some_and(|copied| copied > 0 && copied < 12), "{copied}");

    // The source goes on: another claim, a claim that moves to another stream, and new events.
    let accounts: Repository<Account> = Repository::new(from.store().await);
    let decide = async |_: &Account, _: &Context<Account>| {
        let events = Events::from(Deposited { cents: 1 }).release("email", "ann");
        Ok::<_, std::io::Error>(events.claim("email", "ann@example.com"))
    };
    accounts.decide("ann", decide).await.expect("accepted");
    let decide = async |_: &Account, _: &Context<Account>| {
        Ok::<_, std::io::Error>(Events::from(Deposited { cents: 1 }).claim("email", "ann"))
    };
    accounts.decide("carl", decide).await.expect("accepted");
    from.es(&["feed", "reconcile"]).succeeds();
    let copied = copy(&from, &source, &target);
    assert_eq!((&copied["copied"], &copied["released_claims"]), (&json!(2), &json!(1)), "{copied}");
    assert_eq!(to.es(&["claim", "email", "ann@example.com"]).succeeds(), "account#ann\n");
    assert_eq!(to.es(&["claim", "email", "ann"]).succeeds(), "account#carl\n");
    assert_eq!(copy(&from, &source, &target)["copied"], 0);

    // Events that are not in the feed yet.
    from.deposit("ann", &[1]).await;
    let missing = from.es(&["copy", "--from", &source, "--to", &target]).exits(3);
    assert!(missing.contains("different: the stream `account#ann`: it is at version 6"), "{missing}");
}

#[tokio::test]
async fn differences_are_found() {
    let (from, to) = (Place::new("copy-differs"), Place::new("copy-differs-to"));
    fill(&from).await;
    to.es(&["table", "create"]).succeeds();
    let (source, target) = (address(&from), address(&to));
    copy(&from, &source, &export(&from));
    let text = std::fs::read_to_string(from.path("export.jsonl")).expect("is written");
    let copied = copy(&from, &export(&from), &target);
    assert_eq!((&copied["events"], &copied["verified"]), (&json!(12), &json!(true)), "{copied}");

    // A commit with the same id and another payload.
    std::fs::write(from.path("other.jsonl"), text.replace(":700}", ":701}")).expect("writes");
    let differs = ["copy", "--from", "export:other.jsonl", "--to", &target];
    let differs = from.es(&differs).exits(3);
    assert!(
        differs.contains("different: the stream `account#ann`: the digests of the commits differ"),
        "{differs}"
    );
    // A target with events that the source does not have.
    to.deposit("ann", &[1]).await;
    let differs = from.es(&["--json", "copy", "--from", &source, "--to", &target]).exits(3);
    let differs: Value = serde_json::from_str(&differs).expect("JSON");
    assert_eq!(differs["differences"][0]["subject"], "the stream `account#ann`", "{differs}");
    assert_eq!(differs["differences"][0]["reason"], "the source ends at version 4, the target at version 5");

    let other = Place::new("copy-other");
    other.deposit("bob", &[9, 9, 9]).await;
    let refused = from.es(&["copy", "--from", &source, "--to", &address(&other)]).exits(3);
    assert!(refused.contains("`account#bob`"), "{refused}");
    assert!(other.es(&["--json", "claim", "email", "bob"]).json()["holder"].is_null());
    let other = Place::new("copy-conflict");
    other.deposit("bob", &[9]).await;
    let refused = from.es(&["copy", "--from", &source, "--to", &address(&other)]).fails(1);
    assert!(refused.contains("other events of the stream `account#bob`, so it is not a copy"), "{refused}");
    let shown = other.es(&["--json", "stream", "show", "account#bob"]).succeeds();
    assert_eq!(lines(&shown).len(), 1, "nothing is appended");

    for (from_address, to_address, error) in [
        (&*source, &*source, "must differ"),
        ("events.db", &*target, "the address of a store is invalid: use `dynamodb:TABLE`"),
        ("file:missing.db", &*target, "does not exist"),
        ("postgres://ann:planted-secret@localhost/shop", &*target, "PGPASSWORD"),
    ] {
        let failed = from.es(&["copy", "--from", from_address, "--to", to_address]).fails(1);
        assert!(failed.contains(error) && !failed.contains("planted-secret"), "{failed}");
    }
}

/// A copy to an export and back has the same digests. Sealed data stays sealed.
#[tokio::test]
async fn an_export_of_a_copy_is_complete() {
    let (from, to) = (Place::new("copy-export"), Place::new("copy-export-to"));
    fill(&from).await;
    to.es(&["table", "create"]).succeeds();
    let digests = digests(&from, &address(&from));
    assert_eq!(lines(&digests).len(), 4);
    let text = std::fs::read_to_string(from.path("export.jsonl")).expect("is written");
    let is_claim = |line: &&str| line.starts_with("{\"claim\"");
    let keys: String = text.lines().filter(is_claim).take(1).collect();
    std::fs::write(from.path("keys.jsonl"), keys).expect("writes");
    let imported = from.es(&["import", "keys.jsonl"]).fails(1);
    assert!(imported.contains("import the file with `copy --from export:FILE`"), "{imported}");
    copy(&from, &export(&from), &address(&to));
    Reconciler::builder(&to.store().await).build().run().await.expect("runs");
    assert_eq!(self::digests(&to, &address(&to)), digests);

    let line = json!({
        "stream": "account#eve", "first": 1, "id": "01930000-0000-7000-8000-000000000001",
        "time": "2026-11-27T12:00:00Z", "events": [{ "name": "Deposited", "schema": 1, "payload": SEALED }],
    });
    std::fs::write(from.path("sealed.jsonl"), format!("{line}\n")).expect("writes");
    let copied = from.es(&["copy", "--from", "export:sealed.jsonl", "--to", &address(&to)]).succeeds();
    assert!(copied.contains("use the copy with the same keyring"), "{copied}");
    let shown = to.es(&["--json", "stream", "show", "account#eve", "--payloads"]).succeeds();
    assert_eq!(
        lines(&shown)[0]["events"][0]["payload"],
        serde_json::from_str::<Value>(SEALED).expect("JSON")
    );
}

/// The events of a table whose payload store is the directory `objects` beside it.
pub(crate) async fn fill_with_large_events(place: &Place) {
    fill_with_objects(place, DirectoryPayloads::new(place.path("objects"))).await;
}

/// The same with any payload store.
pub(crate) async fn fill_with_objects(place: &Place, payloads: impl PayloadStore) {
    let engine = Engine::in_file(place.path("events.db")).expect("opens");
    let store = DynamoStore::builder().engine(&engine).payloads(payloads).build().expect("valid");
    store.create_table().await.expect("creates the table");
    let documents: Repository<Document> = Repository::new(store.clone());
    for (id, text) in [("a", "large "), ("b", "also large "), ("a", "larger than before ")] {
        documents.execute(id, Attach(text.repeat(100_000))).await.expect("accepted");
    }
    documents.execute("a", Attach("small".to_owned())).await.expect("accepted");
    Reconciler::builder(&store).build().run().await.expect("runs");
}

/// Returns the paths of the objects of a place.
pub(crate) fn objects(place: &Place) -> Vec<PathBuf> {
    let files = std::fs::read_dir(place.path("objects/events/payloads")).into_iter().flatten();
    files.map(|file| file.expect("is listed").path()).collect()
}

#[tokio::test]
async fn a_copy_has_the_objects_of_large_events() {
    let (from, to) = (Place::new("copy-large"), Place::new("copy-large-to"));
    fill_with_large_events(&from).await;
    to.es(&["table", "create"]).succeeds();
    let (source, target) = (address(&from), address(&to));
    let (of_source, of_target) = (from.path("objects"), to.path("objects"));
    let (of_source, of_target) = (of_source.to_str().expect("UTF-8"), of_target.to_str().expect("UTF-8"));
    let copy = |of_source: &[&str], of_target: &[&str]| {
        let addresses = ["--json", "copy", "--from", &source, "--to", &target];
        from.es(&[&addresses[..], of_source, of_target].concat())
    };
    let (of_source, of_target) = (["--from-payload-store", of_source], ["--to-payload-store", of_target]);

    let without = copy(&[], &of_target).fails(1);
    assert!(without.contains("payload store"), "{without}");
    let without = copy(&of_source, &[]).fails(1);
    assert!(without.contains("payload store"), "{without}");
    let shared = copy(&of_source, &["--to-payload-store", of_source[1]]).fails(1);
    assert!(shared.contains("need different payload stores"), "{shared}");
    let misplaced = ["copy", "--from", "export:none", "--to", &target, "--from-payload-store", "objects"];
    let misplaced = from.es(&misplaced).fails(1);
    assert!(misplaced.contains("only a table has a payload store"), "{misplaced}");

    let copied = copy(&of_source, &of_target).json();
    assert_eq!((&copied["copied"], &copied["verified"]), (&json!(4), &json!(true)), "{copied}");
    // The source is not needed any more.
    std::fs::remove_dir_all(from.path("objects")).expect("deletes");
    assert_eq!(objects(&to).len(), 3);
    let show = ["--payload-store", "objects", "stream", "show", "document#a", "--payloads"];
    let shown = to.es(&show).succeeds();
    assert!(shown.contains("larger than before larger than before") && shown.contains("small"), "it is read");
    let swept = to.es(&["--payload-store", "objects", "payload", "sweep", "--min-age", "0", "--dry-run"]);
    assert_eq!(swept.succeeds(), "would delete 0 objects, and mark 0 for a later run\n");
}

#[tokio::test]
async fn a_damaged_object_is_not_copied_and_a_damaged_copy_is_found() {
    let (from, to) = (Place::new("copy-damaged"), Place::new("copy-damaged-to"));
    fill_with_large_events(&from).await;
    to.es(&["table", "create"]).succeeds();
    let (source, target) = (address(&from), address(&to));
    let (of_source, of_target) = (from.path("objects"), to.path("objects"));
    let copy = [
        "--json",
        "copy",
        "--from",
        &source,
        "--to",
        &target,
        "--from-payload-store",
        of_source.to_str().expect("UTF-8"),
        "--to-payload-store",
        of_target.to_str().expect("UTF-8"),
    ];
    // Damages an object, copies, and repairs the object.
    let copied_with_damage = |place: &Place| {
        let object = objects(place).pop().expect("an object");
        let content = std::fs::read(&object).expect("reads");
        std::fs::write(&object, &content[1..]).expect("writes");
        let error = from.es(&copy).fails(1);
        let name = object.file_name().expect("a name").to_str().expect("UTF-8");
        assert!(error.contains(name), "{error}");
        std::fs::write(&object, content).expect("writes");
    };
    copied_with_damage(&from);
    from.es(&copy).succeeds();
    copied_with_damage(&to);
    from.es(&copy).succeeds();
}
