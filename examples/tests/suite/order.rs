//! The Order example as a process.

use std::path::Path;
use std::process::{Command, Output};

use tokio::net::TcpSocket;

fn order(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_order")).args(arguments).output().expect("the example runs")
}

fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the example failed:\n{text}\n{errors}");
    text
}

fn assert_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("expected {part:?} next in:\n{rest}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn tells_the_whole_story() {
    let text = told(&order(&[]));
    assert_in_order(
        &text,
        &[
            "PlaceOrder",
            "-> OrderPlaced              version 1   2 requests",
            "1 WCU",
            "-> LineAdded                version 2   2 requests",
            "-> LineRemoved              version 3   2 requests",
            "-> rejected: an order that is placed cannot be shipped",
            "-> rejected: the order costs 39.30 EUR, 0.01 EUR was offered",
            "-> rejected: cup is not in the order",
            "-> rejected: an order that is placed cannot be placed",
            "-> LineAdded                version 4   2 requests",
            "-> LineAdded                version 5   3 requests",
            "(another client was faster: decided 2 times)",
            "-> OrderPaid                version 6   2 requests",
            "-> OrderShipped             version 7   2 requests",
            "-> OrderDelivered           version 8   2 requests",
            "-> nothing to do            version 8   1 request",
            "from the snapshot at version 5 to version 8: delivered, 4 lines, 51.40 EUR in all",
            "as it was: paid, 4 lines, 51.40 EUR in all",
            "  1  ",
            "OrderPlaced      ann",
            "  8  ",
            "OrderDelivered   dhl",
            "-> OrderCancelled           version 2   2 requests",
            "-> rejected: an order that is cancelled cannot be paid",
            "order 1001 is delivered",
            "1 paid, 51.40 EUR in all",
            "Dora's order 1003 is shipped",
            "Emil's order 1004 is cancelled",
            "Finn's order 1005 is cancelled",
            "[##############################] 29 of 29 events",
            "switched; all slices are up to date",
        ],
    );
}

#[test]
fn a_second_run_on_the_same_file_goes_on() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("order-example");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("orders.db");
    let file = file.to_str().expect("a path in UTF-8");

    let first = told(&order(&["--file", file]));
    assert!(first.contains("(order 1001)") && !first.contains("is returned now"), "{first}");
    let second = told(&order(&["--file", file]));
    assert_in_order(
        &second,
        &[
            "An earlier run delivered order 1001, which is returned now",
            "-> OrderReturned            version 9",
            "(order 1006)",
            "Ann, ",
            "order 1001 is returned",
            "order 1006 is delivered",
            "Dora's order 1008 is shipped",
        ],
    );
    let third = told(&order(&["--file", file]));
    assert_in_order(&third, &["An earlier run delivered order 1006, which is returned now", "(order 1011)"]);
}

/// The command line of the operators, on the file of a run.
#[test]
fn operators_see_states_and_rebuild_projections() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("order-admin");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("orders.db");
    let file = file.to_str().expect("a path in UTF-8");
    told(&order(&["--file", file]));
    let admin = |arguments: &[&str]| order(&[&["admin", "--file", file], arguments].concat());

    let state = told(&admin(&["state", "order", "1001", "--version", "1"]));
    assert_in_order(
        &state,
        &["order 1001 at version 1 (", "\"article\": \"teapot\"", "\"status\": \"Placed\""],
    );
    let state = told(&admin(&["--json", "state", "order", "1001"]));
    assert_in_order(&state, &["\"snapshot\": 5", "\"status\": \"Delivered\"", "\"version\": 8"]);
    let unknown = admin(&["state", "orders", "1001"]);
    let errors = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        errors.contains("there is no aggregate `orders` in this application: it has `order`"),
        "{errors}"
    );
    assert!(!admin(&["state", "order", "1"]).status.success(), "the order does not exist");

    let list = told(&admin(&["projection", "list"]));
    assert_in_order(&list, &["overview", "ok"]);
    assert_in_order(&told(&admin(&["process", "list"])), &["fulfillment", "ok"]);
    let dry = told(&admin(&["rebuild", "overview", "--dry-run"]));
    assert_in_order(&dry, &["would rebuild `overview` from 29 events"]);
    let rebuilt = told(&admin(&["rebuild", "overview"]));
    assert_in_order(&rebuilt, &["rebuilt `overview` from 29 events: build 3 is active"]);
    let progress = told(&admin(&["projection", "progress", "overview", "--check"]));
    assert_in_order(&progress, &["overview, build 3"]);
}

/// The story and the command line of the operators on a server.
#[test]
#[ignore = "needs a PostgreSQL server"]
fn operators_see_states_and_rebuild_projections_in_postgresql() {
    let url = std::env::var("ES_POSTGRES_URL").expect("ES_POSTGRES_URL is the address of a server");
    told(&order(&["--postgres", &url]));
    let admin = |arguments: &[&str]| order(&[&["admin", "--postgres", &url], arguments].concat());
    let state = told(&admin(&["--json", "state", "order", "1001"]));
    assert_in_order(&state, &["\"snapshot\": 5", "\"status\": \"Delivered\"", "\"version\": 8"]);
    assert_in_order(&told(&admin(&["process", "list"])), &["fulfillment", "ok"]);
    assert_in_order(&told(&admin(&["rebuild", "overview"])), &["rebuilt `overview` from", "is active"]);
    assert_in_order(&told(&admin(&["projection", "progress", "overview", "--check"])), &["overview, build"]);
    let refused = admin(&["feed", "audit"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("`feed audit` is for DynamoDB"), "{errors}");
}

#[test]
fn help_names_every_place() {
    let text = told(&order(&["--help"]));
    for option in ["--file <PATH>", "--endpoint <URL>", "--aws", "--table <NAME>", "embedded DynamoDB engine"]
    {
        assert!(text.contains(option), "{option} is missing in:\n{text}");
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    // A bound port without a listener refuses connections, and no other process can take it.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = socket.local_addr().expect("an address");
    let output = order(&["--endpoint", &format!("http://{address}")]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("error:") && errors.contains("because:"), "{errors}");
}

#[test]
fn two_places_at_once_are_refused() {
    let output = order(&["--file", "orders.db", "--aws"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be used with"));
}
