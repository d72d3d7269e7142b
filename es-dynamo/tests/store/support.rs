//! Stores whose requests are recorded and can be changed, and test data.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use chrono::{DateTime, Utc};
use es_core::event::{CommitId, EventData};
use es_core::ids::{IdSource, RandomIds};
use es_core::store::{Append, Appended, NewCommit, Page, Read};
use es_core::{Cost, EventStore, ExpectedVersion, StoreError, StreamId, Version};
use es_dynamo::embedded::{Connector, Engine};
use es_dynamo::{DynamoStore, names};
use futures_core::future::BoxFuture;
use futures_util::TryStreamExt;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The fate of a request.
pub(crate) enum Act {
    /// It is executed, and its response is returned.
    Pass,
    /// It is not executed, and has no response.
    LoseRequest,
    /// It is executed, and its response is lost.
    LoseAnswer,
    /// It is executed, and this response is returned instead of the real one.
    Replace(u16, String),
    /// It is not executed, and this response is returned.
    Answer(u16, String),
    /// It is executed, and the body of its response is transformed.
    Change(fn(&mut serde_json::Value)),
    /// It is executed, and so is another request, with the body that this text makes of its body. The response to that
    /// one is returned.
    AnswerTo(fn(&str) -> String),
    /// It is executed after this future.
    After(BoxFuture<'static, ()>),
}

type Plan = dyn FnMut(&str) -> Act + Send;

/// A connector to an engine that records all operations, and changes the fate of requests according to a plan.
#[derive(Clone)]
pub(crate) struct Wire {
    way: Connector,
    plan: Arc<Mutex<Box<Plan>>>,
    seen: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Wire {
    /// Returns the bodies of all requests since the last call.
    pub(crate) fn bodies(&self) -> Vec<serde_json::Value> {
        std::mem::take(&mut *self.bodies.lock().expect("no test panicked"))
    }

    /// Returns the operations of all requests since the last call.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("no test panicked"))
    }

    /// Sets the plan for all further requests.
    pub(crate) fn plan(&self, plan: impl FnMut(&str) -> Act + Send + 'static) {
        *self.plan.lock().expect("no test panicked") = Box::new(plan);
    }

    /// Sets the fate of the next request of `operation`.
    pub(crate) fn once(&self, operation: &'static str, act: Act) {
        let mut act = Some(act);
        self.plan(move |seen| match seen == operation {
            true => act.take().unwrap_or(Act::Pass),
            false => Act::Pass,
        });
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").expect("every request has a target");
        let operation = target.rsplit('.').next().expect("has a name").to_owned();
        self.seen.lock().expect("no test panicked").push(operation.clone());
        let body = serde_json::from_slice(request.body().bytes().expect("is whole")).expect("is JSON");
        self.bodies.lock().expect("no test panicked").push(body);
        let act = self.plan.lock().expect("no test panicked")(&operation);
        match act {
            Act::Pass => self.way.call(request),
            Act::Answer(status, body) => HttpConnectorFuture::ready(Ok(response(status, body))),
            Act::LoseAnswer => {
                let answer = self.way.call(request);
                HttpConnectorFuture::new(async move {
                    answer.await?;
                    Err(ConnectorError::timeout("lost on purpose".into()))
                })
            }
            Act::LoseRequest => {
                HttpConnectorFuture::ready(Err(ConnectorError::timeout("lost on purpose".into())))
            }
            Act::Replace(status, body) => {
                let answer = self.way.call(request);
                HttpConnectorFuture::new(async move {
                    answer.await?;
                    Ok(response(status, body))
                })
            }
            Act::Change(change) => {
                let answer = self.way.call(request);
                HttpConnectorFuture::new(async move {
                    let answer = answer.await?;
                    let body = answer.body().bytes().expect("the engine's bodies are whole");
                    let mut body = serde_json::from_slice(body).expect("the engine answers with JSON");
                    change(&mut body);
                    Ok(response(answer.status().as_u16(), body.to_string()))
                })
            }
            Act::AnswerTo(change) => {
                let mut other = request.try_clone().expect("the body is in memory");
                let body = request.body().bytes().expect("is whole");
                let body = change(str::from_utf8(body).expect("is JSON"));
                *other.body_mut() = SdkBody::from(body);
                let (answer, way) = (self.way.call(request), self.way.clone());
                HttpConnectorFuture::new(async move {
                    answer.await?;
                    way.call(other).await
                })
            }
            Act::After(before) => {
                let way = self.way.clone();
                HttpConnectorFuture::new(async move {
                    before.await;
                    way.call(request).await
                })
            }
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

fn response(status: u16, body: String) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).expect("a status"), SdkBody::from(body))
}

/// Returns the body of an error response of DynamoDB.
pub(crate) fn refusal(code: &str, message: &str) -> String {
    format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{message}"}}"#)
}

/// A store that sends every request once, its wire, and a store that bypasses the wire.
pub(crate) struct Watched {
    pub(crate) store: DynamoStore,
    pub(crate) wire: Wire,
    pub(crate) other: DynamoStore,
    pub(crate) engine: Engine,
}

pub(crate) async fn watched() -> Watched {
    let engine = Engine::in_memory().expect("starts");
    let other = engine.store().await.expect("creates the table");
    let (store, wire) = watch(&engine, RetryConfig::disabled());
    Watched { store, wire, other, engine }
}

/// Returns a store on `engine` whose requests are recorded.
pub(crate) fn watch(engine: &Engine, retries: RetryConfig) -> (DynamoStore, Wire) {
    let wire = Wire {
        way: engine.connector(),
        plan: Arc::new(Mutex::new(Box::new(|_| Act::Pass))),
        seen: Arc::default(),
        bodies: Arc::default(),
    };
    let retries = retries.with_initial_backoff(Duration::from_millis(1));
    let config = engine.config_through(SharedHttpConnector::new(wire.clone())).retry_config(retries);
    let client = Client::from_conf(config.build());
    (DynamoStore::builder().engine(engine).client(client).build().expect("a valid name"), wire)
}

pub(crate) fn stream() -> StreamId {
    StreamId::new("order", "ann").expect("a valid stream")
}

pub(crate) fn time() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_800_000_000_123).expect("valid")
}

/// Returns events whose payloads have `bytes` bytes.
pub(crate) fn events_of(count: usize, bytes: usize) -> Vec<EventData> {
    let payload = format!("\"{}\"", "x".repeat(bytes - 2));
    (0..count).map(|_| EventData::new("Counted", 1, payload.clone())).collect()
}

/// Returns a commit of `count` small events.
pub(crate) fn commit(count: usize) -> NewCommit {
    commit_of(events_of(count, 20))
}

pub(crate) fn commit_of(events: Vec<EventData>) -> NewCommit {
    NewCommit::new(CommitId::new(RandomIds.new_id()), time(), events)
}

/// Returns an append of `count` events to the stream.
pub(crate) fn append(expected: ExpectedVersion, count: usize) -> Append {
    Append::new(stream(), expected, commit(count))
}

pub(crate) fn exact(version: u64) -> ExpectedVersion {
    ExpectedVersion::Exact(Version::new(version))
}

/// Appends one commit with each number of events in `counts`.
pub(crate) async fn grow(store: &DynamoStore, counts: &[usize]) {
    for count in counts {
        store.append(&append(ExpectedVersion::Any, *count)).await.expect("appends");
    }
}

/// Appends `commits` of one event of `bytes` each to an empty stream.
pub(crate) async fn fill(store: &DynamoStore, commits: u64, bytes: usize) {
    for version in 0..commits {
        let append = Append::after_loaded(stream(), Version::new(version), commit_of(events_of(1, bytes)));
        store.append(&append).await.expect("appends");
    }
}

/// Returns the versions of an append, and whether it was a repetition.
pub(crate) fn place(appended: &Appended) -> (u64, u64, bool) {
    (appended.first.get(), appended.last.get(), appended.repeated)
}

/// Returns the number of requests, and their units.
pub(crate) fn units(cost: Cost) -> (u32, f64, f64) {
    (cost.requests, cost.read_units, cost.write_units)
}

pub(crate) async fn pages(store: &DynamoStore, read: Read) -> Result<Vec<Page>, StoreError> {
    store.read(read).try_collect().await
}

/// Returns the first and the last version of every commit.
pub(crate) async fn ends(store: &DynamoStore) -> Vec<(u64, u64)> {
    ends_of(&pages(store, Read::all(stream())).await.expect("reads"))
}

pub(crate) fn ends_of(pages: &[Page]) -> Vec<(u64, u64)> {
    let commits = pages.iter().flat_map(|page| &page.commits);
    commits.map(|commit| (commit.first.get(), commit.last().get())).collect()
}

/// Returns the sort key of the commit whose first event has the version `first`.
pub(crate) fn commit_key(first: u64) -> String {
    format!("E#{first:012}")
}

pub(crate) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(crate) fn number(number: &str) -> AttributeValue {
    AttributeValue::N(number.to_owned())
}

pub(crate) async fn get(store: &DynamoStore, sort_key: &str) -> Item {
    let request = store.client().get_item().table_name(store.table_name()).consistent_read(true);
    let request = request.key(names::PARTITION_KEY, text(stream().as_str()));
    request.key(names::SORT_KEY, text(sort_key)).send().await.expect("answers").item.expect("is there")
}

pub(crate) async fn put(store: &DynamoStore, item: Item) {
    let request = store.client().put_item().table_name(store.table_name());
    request.set_item(Some(item)).send().await.expect("writes");
}

pub(crate) async fn delete(store: &DynamoStore, sort_key: &str) {
    let request = store.client().delete_item().table_name(store.table_name());
    let request = request.key(names::PARTITION_KEY, text(stream().as_str()));
    request.key(names::SORT_KEY, text(sort_key)).send().await.expect("deletes");
}
