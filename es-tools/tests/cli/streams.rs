//! `es stream`, `es import`, `es claim`, and `es key`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use es_core::prelude::*;
use es_core::store::EventStore;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::{Account, Deposit, Deposited, Place, lines};

#[tokio::test]
async fn a_stream_is_shown_without_its_payloads() {
    let place = Place::new("show");
    place.deposit("ann", &[5, 700, 13]).await;

    let text = place.es(&["stream", "show", "account#ann"]).succeeds();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["VERSION", "TIME", "EVENT", "ACTOR", "COMMIT"]);
    let shown: Vec<_> = rows[1..].iter().map(|row| (row[0], row[2], row[3])).collect();
    assert_eq!(shown, [("1", "Deposited", "bank"), ("2", "Deposited", "bank"), ("3", "Deposited", "bank")]);
    assert!(!text.contains("cents"), "payloads may be confidential: {text}");

    let payloads = place.es(&["stream", "show", "account#ann", "--payloads"]).succeeds();
    assert!(payloads.contains("{\"cents\":700}"), "{payloads}");

    let part =
        place.es(&["--json", "stream", "show", "account#ann", "--from", "2", "--until", "2"]).succeeds();
    let [commit] = &lines(&part)[..] else { panic!("{part}") };
    assert_eq!(commit["events"], json!([{ "version": 2, "name": "Deposited", "schema": 1 }]));
    assert!(commit["metadata"].is_null() && commit["actor"] == "bank");
    let part =
        place.es(&["--json", "stream", "show", "account#ann", "--until", "1", "--payloads"]).succeeds();
    assert_eq!(lines(&part)[0]["events"][0]["payload"], json!({ "cents": 5 }));
    assert_eq!(lines(&part)[0]["metadata"], json!({ "actor": "bank" }));

    let invalid = place.es(&["stream", "show", "ann"]).fails(2);
    assert!(invalid.contains("invalid value 'ann'"), "{invalid}");
}

#[tokio::test]
async fn an_export_is_imported_with_ids_and_times() {
    let (from, to) = (Place::new("export"), Place::new("import"));
    from.deposit("ann", &[1, 2, 3]).await;
    from.deposit("bob", &[4]).await;
    let file = to.path("export.jsonl");
    let file = file.to_str().expect("a path in UTF-8");

    let one = from.es(&["stream", "export", "account#bob"]).succeeds();
    assert_eq!(lines(&one)[0]["events"][0]["payload"], "{\"cents\":4}");
    // The feed has no events yet, so there is nothing to export from it.
    let none = from.es(&["stream", "export", "--all", "--output", file]).succeeds();
    assert!(none.starts_with("exported 0 events"), "{none}");
    from.es(&["feed", "reconcile"]).succeeds();
    let all = from.es(&["stream", "export", "--all", "--output", file, "--json"]).json();
    assert_eq!(all["events"], 4);

    to.es(&["table", "create"]).succeeds();
    let dry = to.es(&["--dry-run", "import", file]).succeeds();
    assert_eq!(dry, "would import 4 events of 2 streams\n");
    to.es(&["stream", "show", "account#ann"]).fails(1);
    let imported = to.es(&["import", file, "--json"]).json();
    assert_eq!(imported, json!({ "streams": 2, "events": 4, "new": 4 }));
    let again = to.es(&["import", file]).succeeds();
    assert_eq!(again, "imported 0 events; already stored: 4 events\n");
    for stream in ["account#ann", "account#bob"] {
        let show = ["--json", "stream", "show", stream, "--payloads"];
        assert_eq!(to.es(&show).succeeds(), from.es(&show).succeeds());
    }

    // Another event at the same version is never overwritten.
    let other = Place::new("import-conflict");
    other.deposit("bob", &[9]).await;
    let conflict = other.es(&["import", file]).fails(1);
    assert!(conflict.contains("line ") && conflict.contains("account#bob"), "{conflict}");
}

#[tokio::test]
async fn a_damaged_export_is_refused_before_anything_is_imported() {
    let place = Place::new("damaged-export");
    place.deposit("ann", &[1, 2, 3]).await;
    let text = place.es(&["stream", "export", "account#ann"]).succeeds();
    let all: Vec<&str> = text.lines().collect();
    let changed = |from: &str, to: &str| {
        assert!(all[1].contains(from), "{}", all[1]);
        format!("{}\n{}\n", all[0], all[1].replacen(from, to, 1))
    };
    let to = Place::new("damaged-import");
    to.es(&["table", "create"]).succeeds();
    for (content, expected) in [
        (format!("{}\n{}\n", all[0], all[2]), "line 2: the commit follows version 2"),
        (format!("{}\n{{}}\n", all[0]), "line 2: missing field"),
        (changed("account#ann", "account"), "line 2: `account` is not a stream"),
        (changed("account#ann", "account#\\n"), "line 2: the stream \"account#\\n\" has a control character"),
        (
            changed(r#""first":2"#, r#""first":0"#),
            "line 2: a commit of the stream `account#ann` has a version",
        ),
        (
            changed(r#"{\"cents\":2}"#, r#"{\"cents\":"#),
            "line 2: the payload of the event `Deposited` at version 2",
        ),
        (
            changed(r#""schema":1"#, r#""schema":0"#),
            "line 2: the event `Deposited` with the schema version 0",
        ),
        (changed("Deposited", ""), "line 2: the event `` with the schema version 1"),
    ] {
        fs::write(to.path("export.jsonl"), content).expect("writes");
        let refused = to.es(&["import", "export.jsonl"]).fails(1);
        assert!(refused.contains(expected), "{refused}");
        to.es(&["stream", "show", "account#ann"]).fails(1);
    }
}

/// An import reads its input twice, which a pipe does not allow.
#[tokio::test]
async fn an_export_is_imported_from_a_pipe() {
    let (from, to) = (Place::new("pipe"), Place::new("pipe-to"));
    from.deposit("ann", &[5, 700]).await;
    to.es(&["table", "create"]).succeeds();
    let exported = from.es(&["stream", "export", "account#ann", "--output", "-"]).succeeds();
    assert_eq!(lines(&exported).len(), 2);
    let damaged = to.es_from(&["import", "-"], &exported[..exported.len() - 9]).fails(1);
    assert!(damaged.contains("line 2: ") && damaged.contains("use a file that"), "{damaged}");
    to.es(&["stream", "show", "account#ann"]).fails(1);
    let inputs: &[&str] = if cfg!(unix) { &["-", "/dev/stdin"] } else { &["-"] };
    for (input, new) in inputs.iter().zip([2, 0]) {
        let imported = to.es_from(&["import", input, "--json"], &exported).json();
        assert_eq!(imported, json!({ "streams": 1, "events": 2, "new": new }), "{input}");
    }
    for input in inputs {
        let target = format!("file:{}", to.path("events.db").display());
        let copy = ["--json", "copy", "--from", &format!("export:{input}"), "--to", &target];
        let copied = to.es_from(&copy, &exported).json();
        assert_eq!((&copied["events"], &copied["verified"]), (&json!(2), &json!(true)), "{input}: {copied}");
    }
    let source = format!("file:{}", from.path("events.db").display());
    let unverified = from.es(&["copy", "--from", &source, "--to", "export:-"]).fails(1);
    assert!(unverified.contains("cannot be written to standard output"), "{unverified}");
    assert!(!from.path("-").exists());
}

/// An incomplete export would look like a complete one.
#[tokio::test]
async fn a_failed_export_leaves_the_previous_one() {
    let place = Place::new("failed-export");
    place.deposit("ann", &[5]).await;
    place.es(&["stream", "export", "account#ann", "-o", "export.jsonl"]).succeeds();
    let before = fs::read_to_string(place.path("export.jsonl")).expect("is written");
    assert_eq!(lines(&before).len(), 1);
    place.deposit("ann", &[6]).await;
    place.es(&["stream", "export", "account#ann", "account#missing", "-o", "export.jsonl"]).fails(1);
    assert_eq!(fs::read_to_string(place.path("export.jsonl")).expect("is written"), before);
    place.es(&["stream", "export", "account#ann", "-o", "export.jsonl"]).succeeds();
    assert_eq!(lines(&fs::read_to_string(place.path("export.jsonl")).expect("is written")).len(), 2);
    assert!(!place.path("export.jsonl.part").exists());
}

/// Devices and symbolic links are not replaced by a file.
#[cfg(unix)]
#[tokio::test]
async fn an_export_keeps_pipes_and_links() {
    use std::os::unix::fs::{FileTypeExt, symlink};

    let place = Place::new("special-exports");
    place.deposit("ann", &[5]).await;
    let exported = place.es(&["stream", "export", "account#ann"]).succeeds();
    let made = Command::new("mkfifo").arg(place.path("pipe")).status().expect("runs");
    assert!(made.success());
    let pipe = place.path("pipe");
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).expect("reads"));
    place.es(&["stream", "export", "account#ann", "-o", "pipe"]).succeeds();
    assert!(fs::metadata(place.path("pipe")).expect("is there").file_type().is_fifo());
    assert_eq!(reader.join().expect("no panic"), exported);

    fs::write(place.path("file"), "").expect("writes");
    symlink(place.path("file"), place.path("link")).expect("links");
    place.es(&["stream", "export", "account#ann", "-o", "link"]).succeeds();
    assert!(fs::symlink_metadata(place.path("link")).expect("is there").is_symlink());
    assert_eq!(fs::read_to_string(place.path("file")).expect("reads"), exported);
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_command_says_what_is_left() {
    let place = Place::new("interrupted");
    place.es(&["table", "create"]).succeeds();
    let mut command = place.command(&["import", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // More than fits into a pipe: the command has begun to read when this returns.
    child.stdin.as_mut().expect("piped").write_all(&[b' '; 1 << 20]).expect("is read");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("runs").success());
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("reads");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{errors}");
    assert!(errors.contains("interrupted: the events so far are imported: run the same command"), "{errors}");
}

#[tokio::test]
async fn new_events_are_followed() {
    let place = Place::new("tail");
    place.deposit("ann", &[1]).await;
    let file = place.path("events.db");
    let mut tail = Command::new(env!("CARGO_BIN_EXE_es"))
        .arg("--file")
        .arg(&file)
        .args(["--json", "stream", "tail", "account#ann", "--payloads"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    // Deposits until the process, which may start late, shows one.
    let mut out = std::io::BufReader::new(tail.stdout.take().expect("is piped"));
    let read = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).expect("reads");
        line
    });
    let mut cents = 1_000;
    while !read.is_finished() {
        cents += 1;
        place.deposit("ann", &[cents]).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(cents < 2_000, "shows nothing");
    }
    tail.kill().expect("runs");
    tail.wait().expect("ends");
    let line: Value = serde_json::from_str(&read.await.expect("ends")).expect("JSON");
    let shown = line["events"][0]["payload"]["cents"].as_u64().expect("a number");
    assert!((1_001..=cents).contains(&shown), "only new events: {shown}");
}

#[tokio::test]
async fn claims_and_idempotency_keys_are_shown() {
    let place = Place::new("claims");
    let store = place.store().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let decide = async |_: &Account, _: &Context<Account>| {
        Ok::<_, std::io::Error>(Events::from(Deposited { cents: 1 }).claim("email", "ann@example.com"))
    };
    accounts.once("message-1").decide("ann", decide).await.expect("accepted");
    accounts.once("message-2").execute("ann", Deposit(1)).await.expect("accepted");
    assert_eq!(store.head(&"account#ann".parse().expect("valid")).await.expect("reads").version, 2);

    assert_eq!(place.es(&["claim", "email", "ann@example.com"]).succeeds(), "account#ann\n");
    let free = place.es(&["claim", "email", "bob@example.com", "--json"]).json();
    assert!(free["holder"].is_null());
    let key = place.es(&["key", "message-2", "--stream", "account#ann", "--json"]).json();
    assert_eq!(key["streams"], json!([{ "stream": "account#ann", "events": [2, 2] }]));
    assert_eq!(key["expired"], false);
    let unknown = place.es(&["key", "message-2"]).fails(1);
    assert!(unknown.contains("for the key of a command, name its stream with --stream"), "{unknown}");
    let unknown = place.es(&["key", "message-3", "--stream", "account#ann"]).fails(1);
    assert!(unknown.contains("`account#ann` has no record under this key"), "{unknown}");
}

#[tokio::test]
async fn a_stream_is_closed_and_deleted() {
    let place = Place::new("end");
    place.deposit("ann", &[5, 700]).await;
    place.deposit("bob", &[1]).await;
    let accounts: Repository<Account> = Repository::new(place.store().await);
    let ended = |state: &str, version: u64, repeated: bool| json!({ "stream": "account#ann", "state": state, "version": version, "repeated": repeated });

    let dry = place.es(&["--dry-run", "stream", "close", "account#ann"]).succeeds();
    assert_eq!(dry, "would close the stream `account#ann` with 2 events\n");
    let unconfirmed = place.es(&["stream", "close", "account#ann"]).fails(4);
    assert!(unconfirmed.contains("which cannot be undone"), "{unconfirmed}");
    accounts.execute("ann", Deposit(1)).await.expect("is open");
    let closed = place.es(&["--yes", "--json", "stream", "close", "account#ann"]).json();
    assert_eq!(closed, ended("closed", 4, false));
    let again = place.es(&["--yes", "stream", "close", "account#ann"]).succeeds();
    assert_eq!(again, "the stream `account#ann` was closed already, at version 4\n");
    let error = accounts.execute("ann", Deposit(1)).await.expect_err("is closed");
    assert!(error.closed().is_some(), "{error:?}");
    let shown = place.es(&["stream", "show", "account#ann", "--payloads"]).succeeds();
    assert!(shown.contains("{\"cents\":700}") && shown.contains("$closed"), "{shown}");

    place.es(&["--dry-run", "stream", "delete", "account#ann"]).succeeds();
    place.es(&["stream", "delete", "account#ann"]).fails(4);
    assert!(accounts.load("ann").await.is_ok());
    for repeated in [false, true] {
        let deleted = place.es(&["--yes", "--json", "stream", "delete", "account#ann"]).json();
        assert_eq!(deleted, ended("deleted", 5, repeated));
    }
    let shown = place.es(&["stream", "show", "account#ann", "--payloads"]).succeeds();
    assert!(!shown.contains("cents") && shown.contains("$erased") && shown.contains("$deleted"), "{shown}");
    assert!(accounts.load("ann").await.is_err());
    assert!(accounts.load("bob").await.expect("loads").exists());
    let unknown = place.es(&["--yes", "stream", "delete", "account#eve"]).fails(1);
    assert!(unknown.contains("has no events"), "{unknown}");
}

#[tokio::test]
async fn a_stream_is_archived_and_restored() {
    let place = Place::new("archive");
    place.deposit("ann", &[5, 700]).await;
    let accounts: Repository<Account> = Repository::new(place.store().await);
    let archive = ["--json", "stream", "archive", "account#ann", "--to", "archives"];
    let restore = ["--json", "stream", "restore", "account#ann", "--from", "archives"];

    let open = place.es(&archive).fails(1);
    assert!(open.contains("close it first"), "{open}");
    place.es(&["--yes", "stream", "close", "account#ann"]).succeeds();
    let before = place.es(&["--json", "stream", "show", "account#ann", "--payloads"]).succeeds();
    let exported = place.es(&["stream", "export", "account#ann"]).succeeds();
    let dry = place.es(&["--dry-run", "stream", "archive", "account#ann", "--to", "archives"]).succeeds();
    assert_eq!(dry, "would archive the stream `account#ann` with 3 events\n");
    assert!(!place.path("archives").exists());

    let archived = place.es(&archive).json();
    let name = archived["archive"].as_str().expect("has an archive").to_owned();
    let expected = |state: &str, version: u64, repeated: bool| {
        json!({
            "stream": "account#ann", "state": state, "version": version, "repeated": repeated, "archive": name,
        })
    };
    assert_eq!(archived, expected("archived", 4, false));
    assert_eq!(place.es(&archive).json(), expected("archived", 4, true));
    let object = fs::read(place.path("archives").join(&name)).expect("is a file");
    let mut text = String::new();
    GzDecoder::new(&*object).read_to_string(&mut text).expect("is compressed");
    assert_eq!(text, exported, "the lines are those of an export");
    let shown = place.es(&["stream", "show", "account#ann", "--payloads"]).succeeds();
    assert!(!shown.contains("cents") && shown.contains("$archived"), "{shown}");
    let error = accounts.load("ann").await.expect_err("is archived").to_string();
    assert!(error.contains(&name), "{error}");
    let refused = place.es(&["--yes", "stream", "delete", "account#ann"]).fails(1);
    assert!(refused.contains("is archived in the object"), "{refused}");
    let closed = place.es(&["--yes", "stream", "close", "account#ann"]).succeeds();
    assert_eq!(closed, "the stream `account#ann` was closed already, at version 4\n");

    for command in [["restore", "account#ann", "--from"], ["delete", "account#ann", "--archives"]] {
        let missing = place.es(&[&["--yes", "stream"], &command[..], &["elsewhere"]].concat()).fails(1);
        assert!(
            missing.contains("check that this is the payload store to which it was written"),
            "{missing}"
        );
    }
    assert_eq!(place.es(&restore).json(), expected("restored", 5, false));
    assert_eq!(place.es(&restore).json(), expected("restored", 5, true));
    assert!(!place.path("archives").join(&name).exists());
    let after = place.es(&["--json", "stream", "show", "account#ann", "--payloads"]).succeeds();
    assert_eq!(lines(&after)[..3], lines(&before));

    place.es(&archive).json();
    let delete = ["--yes", "--json", "stream", "delete", "account#ann", "--archives", "archives"];
    assert_eq!(place.es(&delete).json()["version"], 7);
    let left = fs::read_dir(place.path("archives/events/archives")).expect("is a directory");
    assert_eq!(left.count(), 0);
    for command in [["restore", "account#ann", "--from"], ["archive", "account#ann", "--to"]] {
        let gone = place.es(&[&["stream"], &command[..], &["archives"]].concat()).fails(1);
        assert_eq!(gone, "error: the stream `account#ann` is deleted: its events are gone for good\n");
    }
}
