//! A bank on its own port, and a client.

use std::future::pending;
use std::net::SocketAddr;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, request};
use bank::{Bank, Settings};
use es_core::workers::{RunningWorkers, Workers};
use es_dynamo::DynamoStore;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A client of a bank.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    client: Client<HttpConnector, Body>,
}

/// A bank that serves its API in this process.
pub struct Server {
    pub api: Api,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Starts a bank that trusts `X-Actor`, as it would behind an authenticating proxy.
    pub async fn start(bank: Bank) -> Self {
        let mut settings = Settings::default();
        settings.trust_actor_header = true;
        Self::start_with(bank, settings).await
    }

    pub async fn start_with(bank: Bank, settings: Settings) -> Self {
        // The API needs no workers.
        Self::start_beside(&Workers::new().spawn(), bank, settings).await
    }

    /// A bank with these workers beside it.
    pub async fn start_beside(workers: &RunningWorkers, bank: Bank, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let api = Api::new(listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            // Unless a test stops the bank, it serves until the test ends.
            if stopped.await.is_err() {
                pending::<()>().await;
            }
        };
        Self {
            api,
            stop,
            serving: tokio::spawn(bank::serve(listener, bank, workers.health(), settings, shutdown)),
        }
    }

    /// Stops the bank, and waits until it has.
    pub async fn stop(self) {
        self.stop.send(()).expect("it is still serving");
        self.serving.await.expect("no panic");
    }
}

/// Creates a store with a new table, on the embedded engine or on the DynamoDB-compatible server at
/// `ES_DYNAMO_ENDPOINT`.
pub async fn store() -> DynamoStore {
    let Ok(url) = std::env::var("ES_DYNAMO_ENDPOINT") else {
        return DynamoStore::embedded().await.expect("an engine");
    };
    let table = format!("bank-tests-{}", Uuid::now_v7());
    let store = DynamoStore::builder().endpoint(url).table(table).build().expect("a store");
    store.create_table().await.expect("a table");
    store
}

/// Starts a bank on a new engine.
pub async fn server() -> Server {
    Server::start(Bank::new(store().await)).await
}

impl Api {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn post(&self, path: &str, body: &Value) -> Call {
        self.post_as("application/json", path).body(body.to_string())
    }

    pub fn post_as(&self, content_type: &str, path: &str) -> Call {
        self.call(Method::POST, path).header("content-type", content_type)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    fn call(&self, method: Method, path: &str) -> Call {
        let uri = format!("http://{}{path}", self.address);
        let request = Request::builder().method(method).uri(uri);
        Call { client: self.client.clone(), request, body: String::new() }
    }

    /// Opens an account with a balance, and returns its path.
    pub async fn account(&self, owner: &str, number: &str, balance: u64) -> String {
        let opened = self.post("/accounts", &json!({ "owner": owner, "number": number })).send().await;
        assert_eq!(opened.status, 201, "{opened:?}");
        let path = opened.header("location").expect("a location").to_owned();
        if balance > 0 {
            self.deposit(&path, balance).send().await.expect(200);
        }
        path
    }

    pub fn deposit(&self, account: &str, amount: u64) -> Call {
        self.post(&format!("{account}/deposits"), &json!({ "amount": amount }))
    }

    pub fn withdraw(&self, account: &str, amount: u64) -> Call {
        self.post(&format!("{account}/withdrawals"), &json!({ "amount": amount }))
    }

    pub fn transfer(&self, from: &str, to: &str, amount: u64) -> Call {
        self.post("/transfers", &json!({ "from": id(from), "to": id(to), "amount": amount }))
    }

    pub async fn balance(&self, account: &str) -> u64 {
        self.get(account).send().await.expect(200)["balance"].as_u64().expect("a number")
    }

    pub async fn history(&self, account: &str) -> Vec<Value> {
        let page = self.get(&format!("{account}/history")).send().await.expect(200);
        assert_eq!(page["next"], Value::Null, "there are more pages");
        page["events"].as_array().expect("an array").clone()
    }
}

/// Returns the id in an account's path.
pub fn id(path: &str) -> &str {
    path.trim_start_matches("/accounts/")
}

/// A request that is not sent yet.
#[must_use]
pub struct Call {
    client: Client<HttpConnector, Body>,
    request: request::Builder,
    body: String,
}

impl Call {
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    /// Replaces the body.
    pub fn body(self, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub async fn send(self) -> Answer {
        let request = self.request.body(Body::from(self.body)).expect("a request");
        let (head, body) = self.client.request(request).await.expect("an answer").into_parts();
        let body = to_bytes(Body::new(body), 1 << 20).await.expect("a body");
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Sends it in a separate task.
    pub fn spawn(self) -> JoinHandle<Answer> {
        tokio::spawn(self.send())
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the body if the response has this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()
    }

    /// Returns the body if the response is a problem with this status and type.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        let expected = match kind {
            "about:blank" => kind.to_owned(),
            kind => format!("https://bank.example/problems/{kind}"),
        };
        assert_eq!(problem["type"], expected, "{problem}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }
}
