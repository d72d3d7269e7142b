//! Failures, and the problems that clients receive.

use std::convert::Infallible;
use std::time::Duration;

use bank::Bank;
use bank::domain::AccountId;
use es_core::RetryPolicy;
use es_core::prelude::*;
use es_core::testing::{Faults, FaultyStore};
use serde_json::json;
use uuid::Uuid;

use super::client::{Server, id, server, store};

#[tokio::test]
async fn what_is_malformed_is_named() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let deposits = format!("{ann}/deposits");
    for (path, body, field) in [
        ("/accounts", json!({ "number": "DE100002" }), "owner"),
        ("/accounts", json!({ "owner": 7, "number": "DE100002" }), "owner"),
        ("/accounts", json!({ "owner": "Bob" }), "number"),
        ("/accounts", json!({ "owner": "Bob", "number": "DE1" }), "number"),
        ("/accounts", json!({ "owner": "Bob", "number": "DE-100002" }), "number"),
        ("/accounts", json!({ "owner": "Bob", "number": "Ä".repeat(8) }), "number"),
        (&deposits, json!({}), "amount"),
        (&deposits, json!({ "amount": null }), "amount"),
        (&deposits, json!({ "amount": -1 }), "amount"),
        (&deposits, json!({ "amount": 1.5 }), "amount"),
        (&deposits, json!({ "amount": "500" }), "amount"),
        (&deposits, json!([500]), "body"),
        (&deposits, json!({ "amount": 1, "ammount": 2 }), "ammount"),
        (&deposits, json!({ "amount": 1, "Amount": 2 }), "Amount"),
        ("/accounts", json!({ "owner": "Bob", "number": "DE100002", "balance": 1 }), "balance"),
        ("/accounts/7/deposits", json!({ "amount": 1 }), "id"),
        ("/accounts/7/withdrawals", json!({ "amount": 1 }), "id"),
        ("/transfers", json!({ "to": id(&ann), "amount": 1 }), "from"),
        ("/transfers", json!({ "from": id(&ann), "to": "Bob", "amount": 1 }), "to"),
        ("/transfers", json!({ "from": id(&ann), "to": id(&ann), "amount": "1" }), "amount"),
        (
            "/transfers",
            json!({ "from": id(&ann), "to": id(&ann), "amount": 1, "currency": "USD" }),
            "currency",
        ),
    ] {
        let problem = api.post(path, &body).send().await.expect_problem(400, "malformed-request");
        assert_eq!(problem["field"], field, "{body}");
    }
    for (call, field) in [
        (api.deposit(&ann, 1).body("{"), "body"),
        (api.deposit(&ann, 1).body(r#"{ "amount": 1, "amount": 1 }"#), "amount"),
        (api.deposit(&ann, 1).body(r#"{ "amount": null, "amount": 1 }"#), "amount"),
        (api.deposit(&ann, 1).body(r#"{ "amount": 1 } {}"#), "body"),
        (api.get("/accounts/7"), "id"),
        (api.get("/accounts/7/history"), "id"),
        (api.delete("/accounts/7"), "id"),
        (api.deposit(&ann, 1).key(""), "idempotency-key"),
        (api.deposit(&ann, 1).key(&"k".repeat(201)), "idempotency-key"),
        (api.deposit(&ann, 1).key("k").key("l"), "idempotency-key"),
        (api.deposit(&ann, 1).header("x-actor", "änn"), "x-actor"),
    ] {
        assert_eq!(call.send().await.expect_problem(400, "malformed-request")["field"], field);
    }
    assert_eq!(api.balance(&ann).await, 500);
}

#[tokio::test]
async fn what_the_domain_refuses_is_unprocessable() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let nobody = json!({ "owner": " ", "number": "DE100002" });
    api.post("/accounts", &nobody).send().await.expect_problem(422, "no-owner");
    api.deposit(&ann, 0).send().await.expect_problem(422, "no-amount");
    api.withdraw(&ann, 0).send().await.expect_problem(422, "no-amount");
    api.deposit(&ann, (1 << 53) - 500).send().await.expect_problem(422, "account-full");
    api.deposit(&ann, (1 << 53) - 501).send().await.expect(200);
    api.deposit(&ann, u64::MAX).send().await.expect_problem(422, "account-full");
}

#[tokio::test]
async fn what_is_no_request_of_the_api_is_a_problem_too() {
    let api = server().await.api;
    api.get("/nothing").send().await.expect_problem(404, "about:blank");
    let wrong_method = api.delete("/transfers").send().await;
    wrong_method.expect_problem(405, "about:blank");
    assert_eq!(wrong_method.header("allow"), Some("POST"));
    let long = json!({ "owner": "x".repeat(20_000), "number": "DE100002" });
    api.post("/accounts", &long).send().await.expect_problem(413, "about:blank");
    api.post_as("text/plain", "/accounts").send().await.expect_problem(415, "about:blank");
}

#[tokio::test]
async fn a_store_that_is_away_is_told_with_a_time_to_come_back() {
    let store = store().await;
    let api = Server::start(Bank::new(store.clone())).await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let bob = api.account("Bob", "DE100002", 0).await;
    for faults in [Faults::seeded(1).throttling(1.0), Faults::seeded(1).lost_requests(1.0)] {
        let broken = FaultyStore::new(store.clone(), faults);
        let away = Server::start(Bank::with_retry(broken, RetryPolicy::never())).await.api;
        for call in [
            away.get(&ann),
            away.get(&format!("{ann}/history")),
            away.deposit(&ann, 1),
            away.deposit(&ann, 1).key("k"),
            away.transfer(&ann, &bob, 1),
            away.delete(&bob),
            away.post("/accounts", &json!({ "owner": "Carl", "number": "DE100003" })),
        ] {
            let answer = call.send().await;
            answer.expect_problem(503, "busy");
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert!(!String::from_utf8_lossy(&answer.body).contains("on purpose"), "{answer:?}");
        }
    }
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await), (500, 0));
}

#[tokio::test]
async fn an_answer_that_is_lost_costs_nothing_under_a_key() {
    let store = store().await;
    let ann = Server::start(Bank::new(store.clone())).await.api.account("Ann", "DE100001", 0).await;
    let broken = FaultyStore::new(store, Faults::seeded(7).lost_answers(0.3).lost_requests(0.1));
    let api = Server::start(Bank::with_retry(broken, RetryPolicy::never())).await.api;
    let (mut busy, mut replayed) = (0, 0);
    for n in 0..30 {
        loop {
            let answer = api.deposit(&ann, 1).key(&format!("k{n}")).send().await;
            match answer.status {
                503 => busy += 1,
                _ => {
                    answer.expect(200);
                    replayed += usize::from(answer.is_replayed());
                    break;
                }
            }
        }
    }
    assert!(busy > 0 && replayed > 0, "{busy} were busy, {replayed} replayed");
    let balance = loop {
        let answer = api.get(&ann).send().await;
        if answer.status == 200 {
            break answer.json()["balance"].clone();
        }
    };
    assert_eq!(balance, 30);
}

#[tokio::test]
async fn who_loses_every_race_may_come_back() {
    let store = store().await;
    let ann = Server::start(Bank::new(store.clone())).await.api.account("Ann", "DE100001", 0).await;
    // Each request to the store yields up to 2,000 times, so that the deposits overtake each other.
    let slow = FaultyStore::new(store, Faults::seeded(1).delays(1.0, Duration::from_secs(2)));
    // Commands in one process share their writes, so that only those of several processes race.
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(Server::start(Bank::with_retry(slow.clone(), RetryPolicy::never())).await.api);
    }
    let api = &processes[0];
    let deposits: Vec<_> = (0..20).map(|n| processes[n % 4].deposit(&ann, 1).spawn()).collect();
    let mut done = 0;
    for deposit in deposits {
        let answer = deposit.await.expect("no panic");
        match answer.status {
            200 => done += 1,
            _ => {
                answer.expect_problem(503, "busy");
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
        }
    }
    assert!(done < 20, "there was no race");
    assert_eq!(api.balance(&ann).await, done);
}

/// An event that accounts do not know, such as one of a later version of the code.
#[event(name = "InterestPaid")]
struct InterestPaid;

#[derive(Aggregate, Default)]
#[aggregate(name = "account", id = AccountId, events(InterestPaid))]
struct LaterAccount;

impl Apply<InterestPaid> for LaterAccount {
    fn apply(&mut self, _: &InterestPaid) {}
}

#[tokio::test]
async fn what_is_wrong_inside_stays_inside() {
    let store = store().await;
    let account = AccountId(Uuid::from_u128(7));
    let later: Repository<LaterAccount> = Repository::new(store.clone());
    later.decide(&account, async |_, _| Ok::<_, Infallible>(InterestPaid.into())).await.expect("recorded");

    let api = Server::start(Bank::new(store)).await.api;
    let path = format!("/accounts/{account}");
    for call in [api.get(&path), api.deposit(&path, 1), api.get(&format!("{path}/history"))] {
        let answer = call.send().await;
        answer.expect_problem(500, "about:blank");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("InterestPaid") && !text.contains("account"), "{text}");
    }
}
