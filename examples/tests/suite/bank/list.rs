//! The list of all accounts, and the health of the workers that keep it.

use std::time::Duration;

use async_trait::async_trait;
use bank::domain::Account;
use bank::{Bank, Settings};
use es_core::projection::BoxError;
use es_core::workers::{Worker, Workers};
use es_core::{Aggregate, Projector, StreamId};
use es_dynamo::Indexer;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::{Server, id, server, store};

/// For what happens within milliseconds, on a machine that may be busy.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn pages_have_every_account_once() {
    let store = store().await;
    let bank = Bank::new(store.clone());
    let ids = Projector::new(store.clone(), bank.ids.clone());
    let indexer = Indexer::builder(&store).build().expect("an indexer");
    let workers = Workers::new().add(ids.clone()).add(indexer).spawn();
    let api = Server::start_beside(&workers, bank.clone(), Settings::default()).await.api;
    assert_eq!(api.get("/accounts").send().await.expect(200), json!({ "accounts": [], "next": null }));

    let mut opened = Vec::new();
    for number in 0..7 {
        // A second event does not list the account again.
        let path = api.account("Ann", &format!("DE10000{number}"), number % 2).await;
        opened.push(id(&path).to_owned());
    }
    for account in &opened {
        let version = bank.accounts.version(&account.parse().expect("an id")).await.expect("a version");
        let stream = StreamId::new(Account::NAME, account).expect("valid");
        ids.wait_for(&stream, version, SOON).await.expect("follows");
    }
    opened.sort();
    for limit in [1, 3, 7, 200] {
        let (mut path, mut listed) = (format!("/accounts?limit={limit}"), Vec::new());
        loop {
            let page = api.get(&path).send().await.expect(200);
            let accounts = page["accounts"].as_array().expect("an array");
            assert!(accounts.len() <= limit, "{page}");
            listed.extend(accounts.iter().map(|id| id.as_str().expect("text").to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            assert!(next.bytes().all(|byte| byte.is_ascii_hexdigit()), "a cursor needs no escapes: {next}");
            path = format!("/accounts?limit={limit}&cursor={next}");
        }
        listed.sort();
        assert_eq!(listed, opened, "limit {limit}");
    }

    let page = api.get("/accounts?limit=1").send().await.expect(200);
    let cursor = page["next"].as_str().expect("a cursor").to_owned();
    let other = format!("{}{}", if cursor.starts_with('0') { "1" } else { "0" }, &cursor[1..]);
    for query in ["cursor=", "cursor=1", &format!("cursor={other}"), &format!("cursor={cursor}00")] {
        let answer = api.get(&format!("/accounts?{query}")).send().await;
        assert_eq!(answer.expect_problem(400, "malformed-request")["field"], "cursor", "{query}");
    }
    for (query, field) in [("limit=0", "limit"), ("limit=201", "limit"), ("page=2", "query")] {
        let answer = api.get(&format!("/accounts?{query}")).send().await;
        assert_eq!(answer.expect_problem(400, "malformed-request")["field"], field, "{query}");
    }
    workers.shutdown().await.expect("stops");
}

/// A worker that always fails.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl Worker for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    async fn run(&self) -> Result<(), BoxError> {
        Err("the password of the database is `secret`".into())
    }

    fn shutdown(&self) {}
}

#[tokio::test]
async fn a_failed_worker_is_not_healthy() {
    let workers = Workers::new().add(Broken).spawn();
    let api = Server::start_beside(&workers, Bank::new(store().await), Settings::default()).await.api;
    while workers.healthy() {
        sleep(Duration::from_millis(1)).await;
    }
    let health = api.get("/health").send().await.expect(503);
    assert_eq!(health["healthy"], false);
    assert_eq!(
        (&health["workers"][0]["name"], &health["workers"][0]["state"]),
        (&json!("broken"), &json!("restarting"))
    );
    assert!(!health.to_string().contains("secret"), "{health}");
    // Commands do not depend on the workers.
    api.account("Ann", "DE100001", 1).await;
}

#[tokio::test]
async fn a_bank_without_workers_is_healthy() {
    let health = server().await.api.get("/health").send().await.expect(200);
    assert_eq!(health, json!({ "healthy": true, "workers": Value::Array(Vec::new()) }));
}
