//! A simulated Kinesis, which fails according to a plan.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

/// The fate of a record or, if it is the first record, of the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Accept,
    /// Only this record is refused.
    Refuse,
    /// The request is lost.
    LoseRequest,
    /// The records are accepted, and the response is lost.
    LoseAnswer,
    /// The request is throttled.
    Throttle,
    /// The service fails.
    Fail,
    /// The request is refused with this code.
    Say(&'static str),
    /// The request does not arrive, and an intermediary responds with the status 200.
    Answer(&'static str),
}

type Plan = dyn FnMut(usize, usize) -> Act + Send;

/// Returns the fate of a record, by the number of its request and its index in the request.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

struct State {
    plan: Box<Plan>,
    operations: Vec<String>,
    bodies: Vec<Value>,
    records: Vec<Record>,
    /// The sequence numbers of the last records by key.
    last: HashMap<String, String>,
}

#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) data: Vec<u8>,
}

impl Fake {
    pub(crate) fn new(plan: impl FnMut(usize, usize) -> Act + Send + 'static) -> Self {
        let state = State {
            plan: Box::new(plan),
            operations: Vec::new(),
            bodies: Vec::new(),
            records: Vec::new(),
            last: HashMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Returns a client that sends each request once.
    pub(crate) fn client(&self) -> Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
            .endpoint_url("http://kinesis.invalid")
            .retry_config(RetryConfig::disabled())
            .retry_partition(RetryPartition::custom("fake").build())
            .http_client(self.clone());
        Client::from_conf(config.build())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked")
    }

    /// Returns the operations with the number of their records.
    pub(crate) fn operations(&self) -> Vec<String> {
        self.state().operations.clone()
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.state().bodies.clone()
    }

    /// Returns the accepted records, in order.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.state().records.clone()
    }
}

impl State {
    fn answer(&mut self, operation: &str, body: Value) -> Result<HttpResponse, ConnectorError> {
        let entries = if operation == "PutRecords" {
            body["Records"].as_array().expect("has records").clone()
        } else {
            vec![body.clone()]
        };
        assert!(entries.len() <= 500, "{} records", entries.len());
        let request = self.operations.len();
        self.operations.push(format!("{operation} {}", entries.len()));
        self.bodies.push(body);

        let whole = (self.plan)(request, 0);
        match whole {
            Act::LoseRequest => return Err(ConnectorError::io("lost on purpose".into())),
            Act::Throttle => return Ok(refusal(400, "ProvisionedThroughputExceededException")),
            Act::Fail => return Ok(refusal(500, "InternalFailureException")),
            Act::Say(code) => return Ok(refusal(400, code)),
            Act::Answer(body) => return Ok(response_of(200, body.to_owned())),
            Act::Refuse if operation == "PutRecord" => {
                return Ok(refusal(400, "ProvisionedThroughputExceededException"));
            }
            Act::Accept | Act::Refuse | Act::LoseAnswer => {}
        }
        let (mut results, mut keys, mut bytes) = (Vec::new(), HashSet::new(), 0);
        for (place, entry) in entries.iter().enumerate() {
            let key = entry["PartitionKey"].as_str().expect("has a key").to_owned();
            let data = base64::decode(entry["Data"].as_str().expect("has data")).expect("is Base64");
            assert!(keys.insert(key.clone()), "two records of {key}");
            bytes += key.len() + data.len();
            let act = if place == 0 { whole } else { (self.plan)(request, place) };
            if act == Act::Refuse {
                let code = "ProvisionedThroughputExceededException";
                results.push(json!({ "ErrorCode": code, "ErrorMessage": "on purpose" }));
                continue;
            }
            if let Some(after) = entry["SequenceNumberForOrdering"].as_str() {
                assert!(self.last[&key].as_str() >= after, "{after} is not of {key}");
            }
            let number = format!("{:056}", self.records.len());
            self.last.insert(key.clone(), number.clone());
            self.records.push(Record { key, data });
            results.push(json!({ "SequenceNumber": number, "ShardId": "shardId-000000000000" }));
        }
        assert!(bytes <= 5 << 20, "{bytes} bytes");
        if whole == Act::LoseAnswer {
            return Err(ConnectorError::timeout("lost on purpose".into()));
        }
        let failed = results.iter().filter(|result| result["ErrorCode"].is_string()).count();
        let body = if operation == "PutRecords" {
            json!({ "FailedRecordCount": failed, "Records": results })
        } else {
            results.remove(0)
        };
        Ok(response(200, &body))
    }
}

impl HttpConnector for Fake {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").expect("every request has a target");
        let operation = target.rsplit('.').next().expect("has a name").to_owned();
        let body = serde_json::from_slice(request.body().bytes().expect("is whole")).expect("is JSON");
        HttpConnectorFuture::ready(self.state().answer(&operation, body))
    }
}

impl HttpClient for Fake {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    response(status, &json!({ "__type": code, "message": "on purpose" }))
}

fn response(status: u16, body: &Value) -> HttpResponse {
    response_of(status, body.to_string())
}

fn response_of(status: u16, body: String) -> HttpResponse {
    let mut response =
        HttpResponse::new(StatusCode::try_from(status).expect("a status"), SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.1");
    response
}
