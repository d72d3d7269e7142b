//! A simulated service that accepts messages in batches, speaks the protocol of EventBridge, SQS, or SNS, and fails
//! according to a plan.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use es_core::publish::Publisher;
use es_dynamo::publishers::{EventBridgePublisher, SnsPublisher, SqsPublisher};
use serde_json::{Value, json};

const BUS: &str = "orders";
pub(crate) const QUEUE: &str = "https://sqs.invalid/123456789012/orders";
pub(crate) const FIFO_QUEUE: &str = "https://sqs.invalid/123456789012/orders.fifo";
pub(crate) const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const FIFO_TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders.fifo";

/// The fate of a message or, if it is the first message, of the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Accept,
    /// Only this message is refused.
    Refuse,
    /// The request is lost.
    LoseRequest,
    /// The messages are accepted, and the response is lost.
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

/// The service, with the destination of its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    EventBridge,
    Sqs,
    FifoSqs,
    Sns,
    FifoSns,
}

impl Service {
    pub(crate) const ALL: [Self; 5] = [Self::EventBridge, Self::Sqs, Self::FifoSqs, Self::Sns, Self::FifoSns];

    pub(crate) fn is_fifo(self) -> bool {
        matches!(self, Self::FifoSqs | Self::FifoSns)
    }
}

#[derive(Clone)]
pub(crate) struct Broker {
    service: Service,
    state: Arc<Mutex<State>>,
}

struct State {
    plan: Box<Plan>,
    batches: Vec<usize>,
    checks: usize,
    bus_exists: bool,
    messages: Vec<Message>,
    /// The deduplication ids of a FIFO queue or topic.
    known: HashSet<String>,
}

/// An entry of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    id: String,
    pub(crate) body: String,
    pub(crate) group: Option<String>,
    pub(crate) deduplication: Option<String>,
    /// The message attributes or, of EventBridge, the other properties.
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Message {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_str(&self.body).expect("is JSON")
    }
}

/// Returns a configuration of a client that sends each request once.
macro_rules! client {
    ($sdk:ident, $broker:expr) => {{
        use $sdk::config::retry::{RetryConfig, RetryPartition};
        use $sdk::config::{BehaviorVersion, Credentials, Region};

        let config = $sdk::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
            .endpoint_url("http://broker.invalid")
            .retry_config(RetryConfig::disabled())
            .retry_partition(RetryPartition::custom("fake").build())
            .http_client($broker);
        $sdk::Client::from_conf(config.build())
    }};
}

impl Broker {
    /// `plan` returns the fate of a message, by the number of its request and its index in the request.
    pub(crate) fn new(service: Service, plan: impl FnMut(usize, usize) -> Act + Send + 'static) -> Self {
        let state = State {
            plan: Box::new(plan),
            batches: Vec::new(),
            checks: 0,
            bus_exists: true,
            messages: Vec::new(),
            known: HashSet::new(),
        };
        Self { service, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn publisher(&self) -> Box<dyn Publisher> {
        match self.service {
            Service::EventBridge => Box::new(self.event_bridge()),
            Service::Sqs => Box::new(self.sqs(QUEUE)),
            Service::FifoSqs => Box::new(self.sqs(FIFO_QUEUE)),
            Service::Sns => Box::new(SnsPublisher::new(self.sns(), TOPIC)),
            Service::FifoSns => Box::new(SnsPublisher::new(self.sns(), FIFO_TOPIC)),
        }
    }

    pub(crate) fn event_bridge(&self) -> EventBridgePublisher {
        EventBridgePublisher::new(client!(aws_sdk_eventbridge, self.clone()), BUS, "example.shop")
    }

    pub(crate) fn sqs(&self, url: &str) -> SqsPublisher {
        SqsPublisher::new(client!(aws_sdk_sqs, self.clone()), url)
    }

    pub(crate) fn sns(&self) -> aws_sdk_sns::Client {
        client!(aws_sdk_sns, self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked")
    }

    /// Returns the number of messages of each request.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.state().batches.clone()
    }

    /// Returns how often the existence of the event bus was checked.
    pub(crate) fn checks(&self) -> usize {
        self.state().checks
    }

    pub(crate) fn set_bus_exists(&self, exists: bool) {
        self.state().bus_exists = exists;
    }

    /// Returns the accepted messages, in order. A FIFO queue or topic accepts each deduplication id once.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.state().messages.clone()
    }

    fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let body = request.body().bytes().expect("is whole");
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let mut state = self.state();
        if target.ends_with("DescribeEventBus") {
            state.checks += 1;
            return Ok(match state.bus_exists {
                true => response(200, &json!({ "Name": BUS })),
                false => refusal(400, "ResourceNotFoundException"),
            });
        }
        let messages = match self.service {
            Service::EventBridge => entries_of_event_bridge(body),
            Service::Sqs | Service::FifoSqs => entries_of_sqs(body),
            Service::Sns | Service::FifoSns => entries_of_sns(body),
        };
        assert!(messages.len() <= 10, "{} messages", messages.len());
        let request = state.batches.len();
        state.batches.push(messages.len());

        let whole = (state.plan)(request, 0);
        match whole {
            Act::LoseRequest => return Err(ConnectorError::io("lost on purpose".into())),
            Act::Throttle => return Ok(self.refusal(400, "ThrottlingException")),
            Act::Fail => return Ok(self.refusal(500, "InternalFailure")),
            Act::Say(code) => return Ok(self.refusal(400, code)),
            Act::Answer(body) => return Ok(response_of(200, body.to_owned())),
            Act::Accept | Act::Refuse | Act::LoseAnswer => {}
        }
        let mut results = Vec::new();
        for (index, message) in messages.into_iter().enumerate() {
            let act = if index == 0 { whole } else { (state.plan)(request, index) };
            results.push((message.id.clone(), act != Act::Refuse));
            if act != Act::Refuse && state.is_new(&message, self.service.is_fifo()) {
                state.messages.push(message);
            }
        }
        match whole {
            Act::LoseAnswer => Err(ConnectorError::timeout("lost on purpose".into())),
            _ => Ok(self.results(&results)),
        }
    }

    fn refusal(&self, status: u16, code: &str) -> HttpResponse {
        match self.service {
            Service::Sns | Service::FifoSns => response_of(
                status,
                format!(
                    "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
                     <Code>{code}</Code><Message>on purpose</Message></Error></ErrorResponse>"
                ),
            ),
            _ => refusal(status, code),
        }
    }

    /// Returns the response with the result of each message: its id, and whether it was accepted.
    fn results(&self, results: &[(String, bool)]) -> HttpResponse {
        let (code, message) = ("InternalFailure", "on purpose");
        match self.service {
            Service::EventBridge => {
                let entry = |(_, accepted): &(String, bool)| match accepted {
                    true => json!({ "EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860" }),
                    false => json!({ "ErrorCode": code, "ErrorMessage": message }),
                };
                let entries: Vec<_> = results.iter().map(entry).collect();
                response(200, &json!({ "FailedEntryCount": 0, "Entries": entries }))
            }
            Service::Sqs | Service::FifoSqs => {
                let (mut successful, mut failed) = (Vec::new(), Vec::new());
                for (id, accepted) in results {
                    match accepted {
                        true => {
                            successful.push(json!({ "Id": id, "MessageId": id, "MD5OfMessageBody": "" }));
                        }
                        false => failed.push(
                            json!({ "Id": id, "Code": code, "Message": message, "SenderFault": false }),
                        ),
                    }
                }
                response(200, &json!({ "Successful": successful, "Failed": failed }))
            }
            Service::Sns | Service::FifoSns => {
                let (mut successful, mut failed) = (String::new(), String::new());
                for (id, accepted) in results {
                    let written = match accepted {
                        true => {
                            write!(successful, "<member><Id>{id}</Id><MessageId>{id}</MessageId></member>")
                        }
                        false => write!(
                            failed,
                            "<member><Id>{id}</Id><Code>{code}</Code><Message>{message}</Message>\
                             <SenderFault>false</SenderFault></member>"
                        ),
                    };
                    written.expect("is text");
                }
                response_of(
                    200,
                    format!(
                        "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult>\
                         <Successful>{successful}</Successful><Failed>{failed}</Failed></PublishBatchResult>\
                         </PublishBatchResponse>"
                    ),
                )
            }
        }
    }
}

impl State {
    fn is_new(&mut self, message: &Message, is_fifo: bool) -> bool {
        if !is_fifo {
            return true;
        }
        assert!(message.group.is_some(), "the message has no group id");
        self.known.insert(message.deduplication.clone().expect("has a deduplication id"))
    }
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    response(status, &json!({ "__type": code, "message": "on purpose" }))
}

fn response(status: u16, body: &Value) -> HttpResponse {
    response_of(status, body.to_string())
}

fn response_of(status: u16, body: String) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).expect("a status"), SdkBody::from(body))
}

fn entries_of_event_bridge(body: &[u8]) -> Vec<Message> {
    let request: Value = serde_json::from_slice(body).expect("is JSON");
    let entries = request["Entries"].as_array().expect("has entries");
    let text = |value: &Value| value.as_str().expect("is text").to_owned();
    let message = |entry: &Value| {
        let properties = ["EventBusName", "Source", "DetailType"];
        let attributes = properties.map(|name| (name.to_owned(), text(&entry[name])));
        Message { body: text(&entry["Detail"]), attributes: attributes.into(), ..Message::default() }
    };
    entries.iter().map(message).collect()
}

fn entries_of_sqs(body: &[u8]) -> Vec<Message> {
    let request: Value = serde_json::from_slice(body).expect("is JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let message = |entry: &Value| {
        let attributes = entry["MessageAttributes"].as_object().expect("has attributes");
        let value = |value: &Value| text(&value["StringValue"]).expect("has a value");
        Message {
            id: text(&entry["Id"]).expect("has an id"),
            body: text(&entry["MessageBody"]).expect("has a body"),
            group: text(&entry["MessageGroupId"]),
            deduplication: text(&entry["MessageDeduplicationId"]),
            attributes: attributes.iter().map(|(name, it)| (name.clone(), value(it))).collect(),
        }
    };
    request["Entries"].as_array().expect("has entries").iter().map(message).collect()
}

fn entries_of_sns(body: &[u8]) -> Vec<Message> {
    let fields: BTreeMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
    let mut messages = Vec::new();
    for number in 1.. {
        let field =
            |name: &str| fields.get(&format!("PublishBatchRequestEntries.member.{number}.{name}")).cloned();
        let Some(id) = field("Id") else { break };
        let attributes = (1..).map_while(|number| {
            let attribute = |part: &str| field(&format!("MessageAttributes.entry.{number}.{part}"));
            Some((attribute("Name")?, attribute("Value.StringValue")?))
        });
        messages.push(Message {
            id,
            body: field("Message").expect("has a message"),
            group: field("MessageGroupId"),
            deduplication: field("MessageDeduplicationId"),
            attributes: attributes.collect(),
        });
    }
    messages
}

impl HttpConnector for Broker {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.answer(&request))
    }
}

impl HttpClient for Broker {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("service", &self.service).finish_non_exhaustive()
    }
}
