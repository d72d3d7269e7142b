//! Clients that are slow, broken, or hostile: every wait for one ends.

use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use bank::{Bank, Settings};
use chrono::{DateTime, Utc};
use es_core::Repository;
use es_core::clock::Clock;
use es_core::testing::{Faults, FaultyStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{Server, server, store};

/// The timeout for events that take milliseconds, on a machine that may be busy. Hyper's default timeout for a head is
/// longer.
const SOON: Duration = Duration::from_secs(20);

/// A timeout that the test waits for.
const SHORT: Duration = Duration::from_millis(200);

/// A timeout that never expires during a test.
const LONG: Duration = Duration::from_secs(3600);

/// Returns settings whose timeouts do not expire during a test.
fn patient() -> Settings {
    let mut settings = Settings::default();
    for timeout in [
        &mut settings.head_timeout,
        &mut settings.body_timeout,
        &mut settings.request_timeout,
        &mut settings.connection_lifetime,
        &mut settings.shutdown_timeout,
    ] {
        *timeout = LONG;
    }
    settings
}

async fn serve(settings: Settings) -> Server {
    Server::start_with(Bank::new(store().await), settings).await
}

/// Sends the text on a new connection, which stays open for writing.
async fn send(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.api.address()).await.expect("connects");
    stream.write_all(text.as_bytes()).await.expect("is sent");
    stream
}

/// Returns all bytes that the server sends until it closes the connection.
async fn rest_of(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // Closing a connection with unread bytes resets it.
    let _ = timeout(SOON, stream.read_to_end(&mut text)).await.expect("the server closes the connection");
    String::from_utf8(text).expect("text")
}

const HALF_A_HEAD: &str = "POST /transfers HTTP/1.1\r\nhost: bank\r\n";

const HALF_A_BODY: &str = "POST /transfers HTTP/1.1\r\nhost: bank\r\ncontent-type: application/json\r\n\
                           content-length: 100\r\n\r\n{";

#[tokio::test]
async fn half_a_head_and_an_idle_connection_are_closed() {
    let mut settings = patient();
    settings.head_timeout = SHORT;
    let server = serve(settings).await;
    for text in ["", HALF_A_HEAD] {
        let answer = rest_of(send(&server, text).await).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    // A busy machine may take longer than the timeout to send the head, so that only one of many answers is certain.
    for _ in 0..100 {
        let answer = rest_of(send(&server, "GET /nothing HTTP/1.1\r\nhost: bank\r\n\r\n").await).await;
        if answer.starts_with("HTTP/1.1 404 ") {
            return;
        }
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    panic!("no request was answered");
}

#[tokio::test]
async fn half_a_body_is_answered_and_closed() {
    let mut settings = patient();
    settings.body_timeout = SHORT;
    let answer = rest_of(send(&serve(settings).await, HALF_A_BODY).await).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_not_read_keeps_no_connection() {
    let text = HALF_A_BODY.replace("/transfers", "/nothing");
    let answer = rest_of(send(&serve(patient()).await, &text).await).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn a_request_that_takes_too_long_has_an_unknown_outcome() {
    let store = store().await;
    let ann = Server::start(Bank::new(store.clone())).await.api.account("Ann", "DE100001", 1).await;
    let mut settings = patient();
    settings.request_timeout = SHORT;
    // Every request to the store takes up to an hour.
    let slow = FaultyStore::new(store, Faults::seeded(1).delays(1.0, LONG));
    let api = Server::start_with(Bank::new(slow), settings).await.api;
    let answer = api.deposit(&ann, 1).send().await;
    let problem = answer.expect_problem(503, "busy");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("unknown")), "{problem}");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_connection_lasts_for_a_limited_time() {
    let mut settings = patient();
    (settings.connection_lifetime, settings.shutdown_timeout) = (SHORT, SHORT);
    let server = serve(settings).await;
    for text in ["", HALF_A_HEAD, HALF_A_BODY] {
        assert_eq!(rest_of(send(&server, text).await).await, "");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let text = format!("{HALF_A_HEAD}x-filler: {}\r\n\r\n", "x".repeat(20_000));
    let answer = rest_of(send(&serve(patient()).await, &text).await).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn further_connections_wait_until_one_is_closed() {
    let mut settings = patient();
    settings.max_connections = NonZeroUsize::MIN;
    let server = serve(settings).await;
    let first = send(&server, HALF_A_HEAD).await;
    let mut second = send(&server, "GET /nothing HTTP/1.1\r\nhost: bank\r\nconnection: close\r\n\r\n").await;
    let mut byte = [0];
    timeout(SHORT, second.read(&mut byte)).await.expect_err("waits for the first connection");
    drop(first);
    let answer = rest_of(second).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn a_shutdown_answers_what_is_in_progress_and_waits_for_nothing_else() {
    let mut settings = patient();
    settings.shutdown_timeout = SHORT;
    let server = serve(settings).await;
    let half = [send(&server, HALF_A_HEAD).await, send(&server, HALF_A_BODY).await];
    let address = server.api.address();
    timeout(SOON, server.stop()).await.expect("the server stops");
    for stream in half {
        assert_eq!(rest_of(stream).await, "");
    }
    TcpStream::connect(address).await.expect_err("it listens no more");

    let server = serve(patient()).await;
    let expecting = HALF_A_BODY.replace("\r\n\r\n{", "\r\nexpect: 100-continue\r\n\r\n");
    let mut late = send(&server, &expecting).await;
    // The server sends this once it waits for the body.
    let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(SOON, late.read_exact(&mut interim)).await.expect("in time").expect("an interim response");
    let stopping = tokio::spawn(server.stop());
    late.write_all(" ".repeat(100).as_bytes()).await.expect("is sent");
    let answer = rest_of(late).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    timeout(SOON, stopping).await.expect("the server stops").expect("no panic");
}

/// A clock that does not work.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl Clock for Broken {
    fn now(&self) -> DateTime<Utc> {
        panic!("the clock is broken, on purpose");
    }

    async fn sleep(&self, _: Duration) {}
}

#[tokio::test]
async fn a_panic_is_answered_and_tells_nothing() {
    let store = store().await;
    let mut bank = Bank::new(store.clone());
    bank.accounts = Repository::builder(store).clock(Broken).build();
    let api = Server::start(bank).await.api;
    let answer = api.post("/accounts", &json!({ "owner": "Ann", "number": "DE100001" })).send().await;
    answer.expect_problem(500, "about:blank");
    assert!(!String::from_utf8_lossy(&answer.body).contains("clock"), "{answer:?}");
    api.get("/nothing").send().await.expect_problem(404, "about:blank");
}

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 1).await;
    for call in [
        api.get(&ann),
        api.get(&ann).header("if-none-match", "*"),
        api.get(&format!("{ann}/history")),
        api.deposit(&ann, 1),
        api.deposit(&ann, 0),
        api.get("/nothing"),
        api.delete("/transfers"),
        api.post_as("text/plain", "/accounts"),
    ] {
        let answer = call.send().await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_actor_from_a_header_is_not_believed_unless_told_so() {
    let api = serve(patient()).await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    api.deposit(&ann, 1).key("k").header("x-actor", "ann").send().await.expect(200);
    assert_eq!(api.history(&ann).await[1]["actor"], Value::Null);
    // An untrusted actor does not change the key, either.
    assert!(api.deposit(&ann, 1).key("k").header("x-actor", "bob").send().await.is_replayed());
}
