//! Requests that fail on purpose, below the SDK: where networks and servers fail.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use es_core::testing::{Fault, Faults};
use serde_json::{Value, json};

/// A connector whose requests fail as [`Faults`] plans it.
///
/// The SDK sees the same failures as with a faulty network or server, so the tests include the SDK's own retries.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use aws_sdk_dynamodb::Client;
/// use es_core::testing::Faults;
/// use es_dynamo::{DynamoStore, embedded::Engine, testing::FaultyConnector};
///
/// let engine = Engine::in_memory()?;
/// let faults = Faults::seeded(42).lost_answers(0.1);
/// let connector = FaultyConnector::new(engine.connector(), faults);
/// let client = Client::from_conf(engine.config_through(connector.into_shared()).build());
/// let store = DynamoStore::builder().client(client).build()?;
/// # Ok(())
/// # }
/// ```
///
/// Limit the faults to some requests with [`only`](Self::only), and put one connector around another for faults of
/// different requests.
#[derive(Clone)]
pub struct FaultyConnector<C> {
    connector: C,
    faults: Faults,
    concerns: Arc<Concerns>,
}

/// Whether a request is concerned, by its operation and its body.
type Concerns = dyn Fn(&str, &str) -> bool + Send + Sync;

/// The codes of refusals other than throttling.
const REFUSALS: [&str; 5] = [
    "ExpiredTokenException",
    "AccessDeniedException",
    "ValidationException",
    "UnrecognizedClientException",
    "ResourceNotFoundException",
];

/// Responses that are not from DynamoDB, or not whole: without a body here, it is one half of the real one.
const UNREADABLE: [(u16, Option<&str>); 9] = [
    (200, Some("")),
    (200, Some("{}")),
    (200, Some(r#"{"message":"ok"}"#)),
    (200, Some("<html>")),
    (200, None),
    (400, Some("{}")),
    (400, Some(r#"{"__type":"com.amazonaws.dynamodb.v20120810#ExpiredTok"#)),
    (403, Some("<html>Forbidden</html>")),
    (502, Some("<html>Bad Gateway</html>")),
];

impl<C: HttpConnector + Clone + 'static> FaultyConnector<C> {
    /// `connector`, with `faults`.
    #[must_use]
    pub fn new(connector: C, faults: Faults) -> Self {
        Self { connector, faults, concerns: Arc::new(|_, _| true) }
    }

    /// Lets all requests pass for which `concerns` returns `false`. It is called with the name of the operation, such as
    /// `PutItem`, and with the body.
    ///
    /// ```
    /// use es_core::testing::Faults;
    /// use es_dynamo::testing::FaultyConnector;
    ///
    /// # #[cfg(feature = "embedded")]
    /// # fn example(connector: es_dynamo::embedded::Connector) {
    /// let throttled = FaultyConnector::new(connector, Faults::seeded(1).throttling(1.0))
    ///     .only(|operation, body| operation == "TransactWriteItems" && body.contains("order#1001"));
    /// # }
    /// ```
    #[must_use]
    pub fn only(mut self, concerns: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.concerns = Arc::new(concerns);
        self
    }

    /// The connector as the SDK takes it.
    #[must_use]
    pub fn into_shared(self) -> SharedHttpConnector {
        SharedHttpConnector::new(self)
    }
}

impl<C: HttpConnector + Clone + 'static> HttpConnector for FaultyConnector<C> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.connector.clone();
        let operation = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
        let body = request.body().bytes().unwrap_or_default();
        if !(self.concerns)(&operation, &String::from_utf8_lossy(body)) {
            return connector.call(request);
        }
        match self.faults.next() {
            None => connector.call(request),
            Some(Fault::TransactionConflict) if operation == "TransactWriteItems" => {
                HttpConnectorFuture::ready(conflict_of(&request))
            }
            Some(Fault::PageCut(part)) if operation == "Query" => HttpConnectorFuture::new(async move {
                let answer = connector.call(request).await?;
                cut(answer, part)
            }),
            Some(Fault::TransactionConflict | Fault::PageCut(_) | Fault::Stale(_)) => connector.call(request),
            Some(Fault::Delayed(delay)) => HttpConnectorFuture::new(async move {
                tokio::time::sleep(delay).await;
                connector.call(request).await
            }),
            Some(Fault::AnswerLost) => HttpConnectorFuture::new(async move {
                let _ = connector.call(request).await;
                Err(ConnectorError::io("the answer was lost on purpose".into()))
            }),
            Some(Fault::AnswerUnreadable(which)) => {
                // One half of the requests is carried out.
                let (is_carried_out, which) = (which >= 0.5, which * 2.0 % 1.0);
                let (status, body) = *select(&UNREADABLE, which);
                HttpConnectorFuture::new(async move {
                    let answer = if is_carried_out { Some(connector.call(request).await?) } else { None };
                    let whole = answer.as_ref().and_then(|answer| answer.body().bytes()).unwrap_or_default();
                    let body = body.map_or(&whole[..whole.len() / 2], str::as_bytes);
                    response(status, body.to_vec())
                })
            }
            Some(Fault::Stalled) => HttpConnectorFuture::new(async move {
                let _ = connector.call(request).await;
                std::future::pending().await
            }),
            Some(Fault::Refused(which)) => {
                HttpConnectorFuture::ready(refusal(400, select::<&str>(&REFUSALS, which)))
            }
            Some(Fault::Throttled) => HttpConnectorFuture::ready(refusal(400, "ThrottlingException")),
            Some(Fault::InternalError) => HttpConnectorFuture::ready(refusal(500, "InternalServerError")),
            Some(_) => {
                HttpConnectorFuture::ready(Err(ConnectorError::io("the request was lost on purpose".into())))
            }
        }
    }
}

impl<C: fmt::Debug> fmt::Debug for FaultyConnector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyConnector")
            .field("connector", &self.connector)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// One of several, by a number from 0 to 1.
fn select<T>(all: &[T], which: f64) -> &T {
    &all[((which * all.len() as f64) as usize).min(all.len() - 1)]
}

/// What the service says when it refuses.
fn refusal(status: u16, code: &str) -> Result<HttpResponse, ConnectorError> {
    let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
    response(status, json!({ "__type": code, "message": "on purpose" }).to_string())
}

/// What the service says when another transaction is at the first item of this one.
fn conflict_of(request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let body: Value = read(request.body())?;
    let items = body["TransactItems"].as_array().map_or(1, Vec::len);
    let code = |index| if index == 0 { "TransactionConflict" } else { "None" };
    let reasons: Vec<_> = (0..items).map(|index| json!({ "Code": code(index) })).collect();
    let cancelled = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "on purpose",
        "CancellationReasons": reasons,
    });
    response(400, cancelled.to_string())
}

/// The answer to a Query that ends earlier, as if it had met the limit of a page.
fn cut(answer: HttpResponse, part: f64) -> Result<HttpResponse, ConnectorError> {
    let status = answer.status().as_u16();
    let mut body: Value = read(answer.body())?;
    let Some(items) = body.get_mut("Items").and_then(Value::as_array_mut).filter(|items| items.len() > 1)
    else {
        return Ok(answer);
    };
    let kept = 1 + ((items.len() - 1) as f64 * part) as usize;
    if kept == items.len() {
        return Ok(answer);
    }
    items.truncate(kept);
    let last = &items[kept - 1];
    let key = json!({ "pk": last["pk"], "sk": last["sk"] });
    body["Count"] = kept.into();
    body["LastEvaluatedKey"] = key;
    response(status, body.to_string())
}

fn read(body: &SdkBody) -> Result<Value, ConnectorError> {
    serde_json::from_slice(body.bytes().unwrap_or_default())
        .map_err(|error| ConnectorError::other(error.into(), None))
}

fn response(status: u16, body: impl Into<SdkBody>) -> Result<HttpResponse, ConnectorError> {
    let status = StatusCode::try_from(status).map_err(|error| ConnectorError::other(error.into(), None))?;
    let mut response = HttpResponse::new(status, body.into());
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    Ok(response)
}
