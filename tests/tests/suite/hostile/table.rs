//! A table that responds like DynamoDB, with arbitrary items.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use es_dynamo::DynamoStore;
use serde_json::{Value, json};

use super::STREAM;

/// An item: its sort key, and its attributes in DynamoDB's JSON.
pub(crate) type Stored = (String, Value);

/// The items of one stream, in the order of their sort keys, and the recorded requests.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    items: Arc<Vec<Stored>>,
    /// The maximum number of items in a response, as if they were large.
    page: usize,
    requests: Arc<AtomicUsize>,
    written: Arc<Mutex<Vec<String>>>,
}

impl Table {
    pub(crate) fn new(mut items: Vec<Stored>, page: usize) -> Self {
        items.sort_by(|one, other| one.0.cmp(&other.0));
        items.dedup_by(|one, other| one.0 == other.0);
        Self { items: Arc::new(items), page: page.max(1), requests: Arc::default(), written: Arc::default() }
    }

    /// Returns a store on this table.
    pub(crate) fn store(&self) -> DynamoStore {
        let connector = SharedHttpConnector::new(self.clone());
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "hostile"))
            .endpoint_url("http://hostile.invalid")
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(http_client_fn(move |_, _| connector.clone()));
        DynamoStore::builder().client(Client::from_conf(config.build())).build().expect("a valid table name")
    }

    /// Restarts the count of requests, which is limited for each call.
    pub(crate) fn next_call(&self) {
        self.requests.store(0, Ordering::SeqCst);
    }

    /// Returns the sort keys of all writes.
    pub(crate) fn written(&self) -> Vec<String> {
        self.written.lock().expect("no panic before").clone()
    }

    fn answer(&self, operation: &str, request: &Value) -> (u16, Value) {
        let (status, mut answer) = match operation {
            "Query" => (200, self.query(request)),
            "GetItem" => (200, self.found(&request["Key"]).map_or(json!({}), |item| json!({ "Item": item }))),
            "PutItem" => self.put(&request["Item"]),
            other => panic!("nobody asks for {other} here"),
        };
        if status == 200 {
            answer["ConsumedCapacity"] = json!({ "TableName": "events", "CapacityUnits": 1.0 });
        }
        (status, answer)
    }

    fn found(&self, key: &Value) -> Option<&Value> {
        let key = key["sk"]["S"].as_str().expect("a sort key");
        self.items.iter().find(|(found, _)| found == key).map(|(_, item)| item)
    }

    fn query(&self, request: &Value) -> Value {
        let value = |name: &str| request["ExpressionAttributeValues"][name]["S"].as_str().expect("a text");
        let (from, to) = (value(":from"), value(":to"));
        let mut items: Vec<_> =
            self.items.iter().filter(|(key, _)| from <= key.as_str() && key.as_str() <= to).collect();
        let forward = request["ScanIndexForward"] != json!(false);
        if !forward {
            items.reverse();
        }
        if let Some(last) = request["ExclusiveStartKey"]["sk"]["S"].as_str() {
            items.retain(|(key, _)| if forward { key.as_str() > last } else { key.as_str() < last });
        }
        let limit = request["Limit"].as_u64().unwrap_or(u64::MAX);
        let most = self.page.min(usize::try_from(limit).unwrap_or(usize::MAX));
        items.truncate(most);
        let mut answer = json!({ "Items": items.iter().map(|(_, item)| item).collect::<Vec<_>>() });
        // As in DynamoDB, a response that ends at the limit does not say whether there are more items.
        if let Some((key, _)) = items.last().filter(|_| items.len() == most) {
            answer["LastEvaluatedKey"] = json!({ "pk": { "S": STREAM }, "sk": { "S": key } });
        }
        answer
    }

    fn put(&self, item: &Value) -> (u16, Value) {
        let key = item["sk"]["S"].as_str().expect("a sort key");
        self.written.lock().expect("no panic before").push(key.to_owned());
        match self.found(item) {
            None => (200, json!({})),
            Some(old) => (
                400,
                json!({
                    "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                    "message": "The conditional request failed",
                    "Item": old,
                }),
            ),
        }
    }
}

impl HttpConnector for Table {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let requests = self.requests.fetch_add(1, Ordering::SeqCst);
        // Each item at most once per page and once more, twice because of the snapshot, and some requests while
        // waiting.
        assert!(requests < 4 * self.items.len() + 250, "the requests of one call do not end");
        let target = request.headers().get("x-amz-target").expect("an operation").to_owned();
        let operation = target.rsplit('.').next().expect("at least one part");
        let body = serde_json::from_slice(request.body().bytes().expect("a body")).expect("JSON");
        let (status, answer) = self.answer(operation, &body);
        let status = StatusCode::try_from(status).expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(answer.to_string()))))
    }
}
