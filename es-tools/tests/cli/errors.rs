//! Errors of a store that cannot be reached or used say what to do.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::{Place, es_remotely};

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
    assert!(errors.contains("\nhelp: `table create` creates it; --table or ES_DYNAMO_TABLE"), "{errors}");
}
