//! Requests that are delivered more than once.

use serde_json::json;

use super::client::{Answer, Call, server};

/// Sends a request and its repetition, and returns the first response.
async fn send_twice(call: impl Fn() -> Call) -> Answer {
    let (first, second) = (call().send().await, call().send().await);
    assert!(!first.is_replayed(), "{first:?}");
    assert_replay(&first, &second);
    first
}

#[track_caller]
fn assert_replay(first: &Answer, second: &Answer) {
    assert!(second.is_replayed(), "{second:?}");
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    for name in ["content-type", "etag", "location", "content-location"] {
        assert_eq!(first.header(name), second.header(name), "{name}");
    }
}

#[tokio::test]
async fn whatever_is_repeated_happens_once() {
    let api = server().await.api;
    let body = json!({ "owner": "Ann", "number": "DE100001" });
    let opened = send_twice(|| api.post("/accounts", &body).key("k")).await;
    opened.expect(201);
    let ann = opened.header("location").expect("a location").to_owned();
    let bob = api.account("Bob", "DE100002", 0).await;
    send_twice(|| api.deposit(&ann, 500).key("a")).await.expect(200);
    send_twice(|| api.withdraw(&ann, 200).key("b")).await.expect(200);
    send_twice(|| api.transfer(&ann, &bob, 300).key("c")).await.expect(200);
    assert_eq!(send_twice(|| api.delete(&ann).key("d")).await.status, 204);
    assert_eq!(api.balance(&bob).await, 300);
    assert_eq!(api.history(&ann).await.len(), 5);
}

#[tokio::test]
async fn a_repetition_tells_how_it_was() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let call = || api.withdraw(&ann, 400).key("k").header("if-match", "\"2\"");
    let first = call().send().await;
    assert_eq!(first.expect(200)["balance"], 100);
    // The balance is now too low, and the version has changed.
    api.withdraw(&ann, 100).send().await.expect(200);
    assert_replay(&first, &call().send().await);
    assert_eq!(api.balance(&ann).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_duplicates_happen_once() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 1000).await;
    let bob = api.account("Bob", "DE100002", 0).await;
    let open = json!({ "owner": "Carl", "number": "DE100003" });
    let calls: [&dyn Fn() -> Call; 4] = [
        &|| api.deposit(&ann, 500).key("k"),
        &|| api.withdraw(&ann, 1000).key("l"),
        &|| api.transfer(&ann, &bob, 300).key("k"),
        &|| api.post("/accounts", &open).key("k"),
    ];
    for call in calls {
        let duplicates: Vec<_> = (0..8).map(|_| call().spawn()).collect();
        let mut answers = Vec::new();
        for duplicate in duplicates {
            answers.push(duplicate.await.expect("no panic"));
        }
        answers.sort_by_key(Answer::is_replayed);
        let (first, rest) = answers.split_first().expect("eight");
        assert!(matches!(first.status, 200 | 201) && !first.is_replayed(), "{first:?}");
        for again in rest {
            assert_replay(first, again);
        }
    }
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await), (200, 300));
    assert_eq!(api.history(&ann).await.len(), 5);
}

#[tokio::test]
async fn without_a_key_or_under_another_one_it_happens_again() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    let bob = api.account("Bob", "DE100002", 0).await;
    let calls = [
        api.deposit(&ann, 1),
        api.deposit(&ann, 1),
        api.deposit(&ann, 1).key("k"),
        api.deposit(&ann, 1).key("l"),
        api.deposit(&ann, 1).key("k").header("x-actor", "ann"),
        api.deposit(&ann, 1).key("k").header("x-actor", "bob"),
        api.deposit(&bob, 1).key("k"),
        api.deposit(&bob, 1).key("b k").header("x-actor", "a"),
        api.deposit(&bob, 1).key("k").header("x-actor", "a b"),
        api.deposit(&bob, 1).key(&"\"".repeat(200)).header("x-actor", &"\"".repeat(200)),
    ];
    for call in calls {
        let answer = call.send().await;
        assert!(answer.status == 200 && !answer.is_replayed(), "{answer:?}");
    }
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await), (6, 4));
}

#[tokio::test]
async fn a_rejection_is_not_remembered() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    let call = || api.withdraw(&ann, 100).key("k");
    call().send().await.expect_problem(422, "overdrawn");
    api.deposit(&ann, 100).send().await.expect(200);
    send_twice(call).await.expect(200);
}

#[tokio::test]
async fn a_key_is_good_for_one_request() {
    let api = server().await.api;
    let open = |owner: &str, number: &str| {
        api.post("/accounts", &json!({ "owner": owner, "number": number })).key("k")
    };
    let opened = open("Ann", "DE100001").send().await;
    opened.expect(201);
    let ann = opened.header("location").expect("a location").to_owned();
    let bob = api.account("Bob", "DE100002", 0).await;
    let carl = api.account("Carl", "DE100003", 0).await;
    api.deposit(&ann, 500).key("a").send().await.expect(200);
    api.transfer(&ann, &bob, 100).key("a").send().await.expect(200);
    for call in [
        open("Anna", "DE100001"),
        open("Ann", "DE100009"),
        open("Ann", "DE100002"),
        api.deposit(&ann, 501).key("a"),
        api.withdraw(&ann, 500).key("a"),
        api.delete(&ann).key("a"),
        api.transfer(&ann, &bob, 101).key("a"),
        api.transfer(&ann, &carl, 100).key("a"),
        api.transfer(&bob, &ann, 100).key("a"),
    ] {
        call.send().await.expect_problem(422, "idempotency-key-reused");
    }
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await, api.balance(&carl).await), (400, 100, 0));

    // Carl's account is already closed, so the request with this key has no effect.
    assert_eq!(api.delete(&carl).send().await.status, 204);
    assert_eq!(api.delete(&carl).key("c").send().await.status, 204);
    api.deposit(&carl, 1).key("c").send().await.expect_problem(422, "idempotency-key-reused");
}
