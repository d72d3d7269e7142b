//! Errors of a store that cannot be reached or used say what to do.

use std::io::{Read, Write};
use std::net::TcpListener;

use es_core::prelude::*;
use serde_json::{Value, json};

use crate::support::{Account, Deposit, Place, es_remotely, lines};

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];

/// Starts a server that refuses every request with this error code, until the test ends. Returns its address.
fn refusing(code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // The requests are small, and arrive as a whole.
            let _ = stream.read(&mut [0; 16 * 1024]);
            let body =
                format!("{{\"__type\":\"com.amazon.coral.service#{code}\",\"message\":\"on purpose\"}}");
            let _ = write!(
                stream,
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    format!("http://{address}")
}

#[test]
fn an_unreachable_server() {
    // Port 1 is reserved, and closed.
    let errors = es_remotely(&["--endpoint", "http://127.0.0.1:1", "projection", "list"], &[]).fails(1);
    assert!(errors.starts_with("error: the store is unavailable: "), "{errors}");
    assert!(errors.contains("\nhelp: check that this computer can reach DynamoDB"), "{errors}");
}

#[test]
fn an_invalid_address() {
    for address in ["localhost:8000", "http://", "http://:8000"] {
        let errors = es_remotely(&["--endpoint", address, "table", "verify"], &[]).fails(2);
        assert!(errors.contains("use an address such as http://localhost:8000"), "{errors}");
    }
}

#[test]
fn missing_credentials_are_not_a_finding_about_the_table() {
    let errors = es_remotely(&["table", "verify"], &[]).fails(1);
    assert!(errors.contains("check the credentials and the region of the client"), "{errors}");
    assert!(errors.contains("\nhelp: `aws sts get-caller-identity` shows"), "{errors}");
}

#[test]
fn credentials_that_cannot_be_loaded_are_named() {
    // Port 1 is reserved, and closed.
    let environment = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")];
    let errors = es_remotely(&["projection", "list"], &environment).fails(1);
    assert!(errors.contains("the credentials could not be loaded"), "{errors}");
    assert!(errors.contains("\nhelp: sign in, or set AWS_PROFILE"), "{errors}");
}

#[test]
fn refused_credentials_are_not_a_finding_about_the_table() {
    for (code, expected) in [
        (
            "ExpiredTokenException",
            "the credentials have expired: renew them, for example with `aws sso login`",
        ),
        ("UnrecognizedClientException", "the credentials are not accepted: check them, and the region"),
        ("AccessDeniedException", "access to the table `events` is denied: compare the role's policy"),
    ] {
        let address = refusing(code);
        let [id, secret] = KEYS;
        let environment = [id, secret, ("AWS_ENDPOINT_URL", &*address)];
        let errors = es_remotely(&["table", "verify"], &environment).fails(1);
        assert!(errors.contains(expected), "{errors}");
        assert!(errors.contains("\nhelp: `aws sts get-caller-identity` shows"), "{errors}");
    }
}

#[tokio::test]
async fn a_missing_table() {
    let place = Place::new("missing-table");
    place.store().await;
    let errors = place.es(&["--table", "others", "projection", "list"]).fails(1);
    assert!(errors.contains("the table `others` does not exist"), "{errors}");
    assert!(errors.contains("\nhelp: to use another table, pass --table"), "{errors}");
    for (command, code) in [
        (["projection", "list"], 1),
        (["table", "verify"], 3),
        (["table", "reset"], 1),
        (["feed", "audit"], 1),
    ] {
        let ran = place.es(&[&["--yes", "--table", "others"], &command[..]].concat());
        let text = ran.exits(code) + &ran.fails(code);
        assert!(text.contains("the table `others` does not exist: create it with `table create`"), "{text}");
        assert!(!text.contains("create_table"), "{text}");
    }
}

#[tokio::test]
async fn errors_are_json_if_the_output_is() {
    let place = Place::new("json-errors");
    place.deposit("ann", &[1]).await;
    let missing = lines(&place.es(&["--json", "stream", "show", "account#bob"]).fails(1));
    assert_eq!(
        missing,
        [json!({ "error": "the stream `account#bob` has no events: check its name", "help": null })]
    );
    let found = place.es(&["--json", "feed", "audit"]);
    let report: Value = serde_json::from_str(&found.exits(3)).expect("JSON");
    assert_eq!(report["sound"], false);
    assert_eq!(lines(&found.fails(3)), [json!({ "error": "the check found a problem", "help": null })]);
    let unconfirmed = lines(&place.es(&["--json", "stream", "close", "account#ann"]).fails(4));
    assert!(
        unconfirmed[0]["error"].as_str().is_some_and(|error| error.contains("pass --yes")),
        "{unconfirmed:?}"
    );
    let unreachable = es_remotely(&["--json", "--endpoint", "http://127.0.0.1:1", "projection", "list"], &[]);
    let unreachable = lines(&unreachable.fails(1));
    assert!(
        unreachable[0]["help"].as_str().is_some_and(|help| help.starts_with("check that")),
        "{unreachable:?}"
    );
}

/// `head` and `less` close the pipe before the end.
#[tokio::test]
async fn a_closed_output_is_no_error() {
    let place = Place::new("closed");
    place.deposit("ann", &[1, 2, 3]).await;
    for arguments in [
        &["stream", "export", "account#ann"][..],
        &["stream", "show", "account#ann"],
        &["--json", "stream", "show", "account#ann"],
        &["--json", "projection", "list"],
        &["completions", "bash"],
        &["man"],
    ] {
        let (reader, writer) = std::io::pipe().expect("opens");
        drop(reader);
        let errors = place.es_to(arguments, writer.into()).fails(0);
        assert_eq!(errors, "", "{arguments:?}");
    }
}

/// The name of an actor may come from anywhere.
#[tokio::test]
async fn stored_text_does_not_control_the_terminal() {
    let place = Place::new("hostile");
    let accounts: Repository<Account> = Repository::new(place.store().await);
    let metadata = Metadata::new().with_actor("eve\n9  \u{1b}[2Jroot");
    accounts.with_metadata(metadata).execute("ann", Deposit(1)).await.expect("accepted");
    drop(accounts);
    let shown = place.es(&["stream", "show", "account#ann"]).succeeds();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains(r"eve\n9  \u{1b}[2Jroot"), "{shown}");
    let unknown = place.es(&["projection", "pause", "mails\u{1b}[31m"]).fails(1);
    assert!(unknown.contains(r"`mails\u{1b}[31m`"), "{unknown}");
    assert!(!format!("{shown}{unknown}").contains('\u{1b}'), "{shown}{unknown}");
    let line = place.es(&["--json", "stream", "show", "account#ann"]).succeeds();
    assert_eq!(lines(&line)[0]["actor"], "eve\n9  \u{1b}[2Jroot");
}

#[tokio::test]
async fn errors_name_the_file_the_address_or_the_command() {
    let place = Place::new("named");
    place.es(&["table", "create"]).succeeds();
    place.deposit("ann", &[1]).await;
    let missing = place.es(&["stream", "export", "account#ann", "--output", "missing/export"]).fails(1);
    assert!(missing.starts_with("error: missing/export: "), "{missing}");
    let dry = place.es(&["--dry-run", "stream", "export", "account#ann", "--output", "export"]).succeeds();
    assert_eq!(dry, "would write the events to export\n");
    assert!(!place.path("export").exists());
    std::fs::write(place.path("lines"), "no JSON\n").expect("writes");
    let absent = place.es(&["stream", "export", "account#ann", "account#bob"]).fails(1);
    assert!(absent.contains("the stream `account#bob` has no events: check its name"), "{absent}");
    let beyond = place.es(&["stream", "show", "account#ann", "--from", "5"]).fails(1);
    assert!(beyond.contains("has no events in this range of versions: it ends at version 1"), "{beyond}");
    std::fs::create_dir(place.path("directory")).expect("is new");
    let directory = place.es(&["stream", "export", "account#ann", "--output", "directory"]).fails(1);
    assert!(directory.starts_with("error: directory: "), "{directory}");
    assert!(!place.path("directory.part").exists());
    let directory = place.es(&["man", "--directory", "missing"]).fails(1);
    assert!(directory.starts_with("error: missing: "), "{directory}");
    let line = place.es(&["import", "lines"]).fails(1);
    assert!(line.starts_with("error: line 1: "), "{line}");
    assert!(line.contains("use a file that `stream export` or `copy` has written"), "{line}");
    let directory = place.es(&["import", "."]).fails(1);
    assert!(directory.starts_with("error: .: "), "{directory}");
    let beyond = place.es(&["feed", "show", "0", "--after", "99"]).fails(1);
    assert!(beyond.contains("slice 0 ends at position 0, before position 99"), "{beyond}");
    let template = place.es(&["--table", "a\"b", "table", "template", "terraform"]).fails(1);
    assert!(template.contains("is not a valid name of a table"), "{template}");
    #[cfg(feature = "explorer")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("has an address").to_string();
        let used = place.es(&["explore", "--listen", &address]).fails(1);
        assert!(used.contains(&format!("cannot listen on {address}: ")), "{used}");
        assert!(used.contains("choose another address with --listen"), "{used}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_not_a_question_of_credentials() {
    let place = Place::new("unopened");
    std::fs::write(place.path("events.db"), "hello").expect("writes");
    let errors = place.es(&["projection", "list"]).fails(1);
    assert!(errors.contains("is not a database of the embedded engine: choose another file"), "{errors}");
    assert!(!errors.contains("help:"), "{errors}");
}

#[test]
fn options_that_exclude_each_other_are_invalid() {
    let place = Place::new("options");
    for arguments in [
        &["projection", "discard", "mails", "0"][..],
        &["projection", "discard", "mails", "0", "--position", "1", "--timeout", "x"],
        &["projection", "seek", "mails", "0"],
        &["projection", "seek", "mails", "0", "--end", "--after", "1"],
        &["feed", "show", "0", "--limit", "0"],
        &["table", "create", "--provisioned", "0", "5"],
    ] {
        place.es(arguments).fails(2);
    }
}

/// An unset variable of a shell must not select the current directory.
#[tokio::test]
async fn empty_places_are_invalid() {
    let place = Place::new("empty-places");
    place.deposit("ann", &[1]).await;
    place.es(&["--yes", "stream", "close", "account#ann"]).succeeds();
    for arguments in [
        &["stream", "archive", "account#ann", "--to", ""][..],
        &["stream", "restore", "account#ann", "--from", ""],
        &["stream", "delete", "account#ann", "--archives", ""],
        &["payload", "sweep", "--payload-store", ""],
        &["copy", "--from", "file:a", "--to", "file:b", "--from-payload-store", ""],
        &["copy", "--from", "file:a", "--to", "file:b", "--to-payload-store", ""],
        #[cfg(feature = "explorer")]
        &["explore", "--token", ""],
    ] {
        let errors = place.es(arguments).fails(2);
        assert!(errors.contains("a value is required for"), "{errors}");
    }
    place.es_with(&["payload", "sweep"], &[("ES_PAYLOAD_STORE", "")]).fails(2);
    assert!(!place.path("events").exists());
}
