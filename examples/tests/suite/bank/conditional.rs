//! Conditional requests.

use serde_json::json;

use super::client::server;

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    for known in ["\"2\"", "W/\"2\"", "\"1\", \"2\"", "*"] {
        let answer = api.get(&ann).header("if-none-match", known).send().await;
        assert_eq!(
            (answer.status, answer.header("etag"), answer.body.len()),
            (304, Some("\"2\""), 0),
            "{known}"
        );
    }
    for unknown in ["\"1\"", "\"02\"", "\"x\""] {
        api.get(&ann).header("if-none-match", unknown).send().await.expect(200);
    }
    let malformed = api.get(&ann).header("if-none-match", "2").send().await;
    assert_eq!(malformed.expect_problem(400, "malformed-request")["field"], "if-none-match");

    api.deposit(&ann, 1).send().await.expect(200);
    assert_eq!(api.get(&ann).header("if-none-match", "\"2\"").send().await.expect(200)["version"], 3);
}

#[tokio::test]
async fn a_change_is_made_at_the_version_that_the_client_saw() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let outdated = api.deposit(&ann, 1).header("if-match", "\"1\"").send().await;
    assert_eq!(outdated.expect_problem(412, "outdated")["version"], 2);
    assert_eq!(outdated.header("etag"), Some("\"2\""));
    for never in ["\"3\"", "W/\"2\"", "\"x\"", "\"1\", \"3\""] {
        for call in [api.deposit(&ann, 1), api.withdraw(&ann, 1), api.withdraw(&ann, 9999), api.delete(&ann)]
        {
            call.header("if-match", never).send().await.expect_problem(412, "outdated");
        }
    }
    for (version, matching) in ["\"2\"", "\"1\", \"3\"", "*"].into_iter().enumerate() {
        let changed = api.deposit(&ann, 1).header("if-match", matching).send().await;
        assert_eq!(changed.expect(200)["version"], version + 3);
    }
    for malformed in ["5", "\"5", "", "W/5", "\"5\","] {
        let answer = api.deposit(&ann, 1).header("if-match", malformed).send().await;
        assert_eq!(answer.expect_problem(400, "malformed-request")["field"], "if-match", "{malformed}");
    }
    assert_eq!(api.balance(&ann).await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_changes_at_one_version_one_is_made() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    let deposits: Vec<_> =
        (1..=10).map(|amount| api.deposit(&ann, amount).header("if-match", "\"1\"").spawn()).collect();
    let mut balances = Vec::new();
    for deposit in deposits {
        let answer = deposit.await.expect("no panic");
        match answer.status {
            200 => balances.push(answer.json()["balance"].clone()),
            _ => assert_eq!(answer.expect_problem(412, "outdated")["version"], 2),
        }
    }
    assert_eq!(balances, [json!(api.balance(&ann).await)]);
}

#[tokio::test]
async fn a_transfer_heeds_the_version_of_the_account_that_it_comes_from() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 500).await;
    let bob = api.account("Bob", "DE100002", 0).await;
    let outdated = api.transfer(&ann, &bob, 100).header("if-match", "\"1\"").send().await;
    assert_eq!(outdated.expect_problem(412, "outdated")["version"], 2);
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await), (500, 0));
    api.transfer(&ann, &bob, 100).header("if-match", "\"2\"").send().await.expect(200);
    assert_eq!((api.balance(&ann).await, api.balance(&bob).await), (400, 100));
}
