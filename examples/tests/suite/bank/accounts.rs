//! The life of an account.

use serde_json::json;

use super::client::{id, server};

const UNKNOWN: &str = "/accounts/01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn an_account_is_opened_and_found() {
    let api = server().await.api;
    let opened = api.post("/accounts", &json!({ "owner": " Ann ", "number": "de10 0001" })).send().await;
    let body = opened.expect(201);
    let location = opened.header("location").expect("a location");
    assert_eq!((opened.header("etag"), opened.header("content-location")), (Some("\"1\""), Some(location)));
    let expected = json!({
        "id": id(location), "number": "DE100001", "owner": "Ann", "status": "open", "balance": 0, "version": 1,
    });
    assert_eq!(body, expected);

    let found = api.get(location).send().await;
    assert_eq!((found.expect(200), found.header("etag")), (expected, Some("\"1\"")));
}

#[tokio::test]
async fn money_goes_in_and_out() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    let deposited = api.deposit(&ann, 500).send().await;
    assert_eq!(deposited.expect(200)["balance"], 500);
    assert_eq!(deposited.header("etag"), Some("\"2\""));
    assert_eq!(api.withdraw(&ann, 499).send().await.expect(200)["balance"], 1);

    let overdrawn = api.withdraw(&ann, 2).send().await.expect_problem(422, "overdrawn");
    assert_eq!((&overdrawn["balance"], &overdrawn["amount"]), (&json!(1), &json!(2)));
    assert_eq!(api.balance(&ann).await, 1);
}

#[tokio::test]
async fn a_number_is_taken_once_however_it_is_spelled() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    let second = api.post("/accounts", &json!({ "owner": "Bob", "number": "de 10 00 01" })).send().await;
    assert_eq!(second.expect_problem(409, "number-taken")["field"], "number");
    let text = String::from_utf8_lossy(&second.body);
    for personal in ["Ann", "Bob", id(&ann), "100001"] {
        assert!(!text.contains(personal), "{personal} is told in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_opens_with_one_number_one_wins() {
    let api = server().await.api;
    let opens: Vec<_> = (0..10)
        .map(|n| json!({ "owner": format!("Owner {n}"), "number": "DE100001" }))
        .map(|body| api.post("/accounts", &body).spawn())
        .collect();
    let mut won = 0;
    for open in opens {
        let answer = open.await.expect("no panic");
        match answer.status {
            201 => won += 1,
            _ => drop(answer.expect_problem(409, "number-taken")),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn an_empty_account_is_closed_and_its_number_is_free() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let full = api.delete(&ann).send().await;
    assert_eq!(full.expect_problem(422, "account-not-empty")["balance"], 500);

    api.withdraw(&ann, 500).send().await.expect(200);
    for _ in 0..2 {
        let closed = api.delete(&ann).send().await;
        assert_eq!((closed.status, closed.body.len()), (204, 0));
    }
    assert_eq!(api.get(&ann).send().await.expect(200)["status"], "closed");
    assert_eq!(api.history(&ann).await.len(), 4);
    api.deposit(&ann, 1).send().await.expect_problem(422, "account-closed");
    api.withdraw(&ann, 1).send().await.expect_problem(422, "account-closed");
    assert_ne!(api.account("Bob", "DE100001", 0).await, ann);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let api = server().await.api;
    let calls = [
        api.get(UNKNOWN),
        api.get(&format!("{UNKNOWN}/history")),
        api.delete(UNKNOWN),
        api.deposit(UNKNOWN, 1),
        api.withdraw(UNKNOWN, 1),
        api.deposit(UNKNOWN, 1).header("if-match", "\"1\""),
        api.deposit(UNKNOWN, 1).header("if-match", "*"),
        api.get(UNKNOWN).header("if-none-match", "*"),
    ];
    for call in calls {
        call.send().await.expect_problem(404, "unknown-account");
    }
    // A GET does not create an account.
    api.get(UNKNOWN).send().await.expect_problem(404, "unknown-account");
}

#[tokio::test]
async fn the_history_tells_what_when_and_who() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let by_ann = api.deposit(&ann, 500).header("x-actor", "ann").header("x-request-id", "r-1");
    by_ann.header("traceparent", trace).send().await.expect(200);
    for no_trace in ["00-nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let by_bob = api.withdraw(&ann, 200).header("x-actor", "bob").header("x-request-id", "r-2");
        by_bob.header("traceparent", no_trace).send().await.expect(200);
    }

    let history = api.history(&ann).await;
    assert_eq!(history.len(), 4, "{history:?}");
    let known =
        |n: usize, fields: &[&str]| fields.iter().map(|field| history[n][*field].clone()).collect::<Vec<_>>();
    let fields = ["version", "event", "actor", "correlation", "amount"];
    assert_eq!(
        known(0, &["version", "event", "actor", "owner", "number"]),
        [json!(1), json!("opened"), json!(null), json!("Ann"), json!("DE100001"),]
    );
    let trace_id = json!("4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(known(1, &fields), [json!(2), json!("deposited"), json!("ann"), trace_id, json!(500)]);
    for n in [2, 3] {
        assert_eq!(
            known(n, &fields),
            [json!(n + 1), json!("withdrawn"), json!("bob"), json!("r-2"), json!(200)]
        );
    }
    let times: Vec<_> = history.iter().map(|event| event["time"].as_str().expect("a time")).collect();
    assert!(
        times.is_sorted() && times.iter().all(|time| time.len() == 24 && time.ends_with('Z')),
        "{times:?}"
    );
}
