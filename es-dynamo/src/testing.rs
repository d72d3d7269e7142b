//! Fault injection below the SDK, where networks and servers fail.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use es_core::testing::{Fault, Faults};
use serde_json::{Value, json};

/// A connector that injects [`Faults`] into requests.
///
/// The SDK sees the failures of a faulty network or server, so that tests include the retries of the SDK.
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
/// [`only`](Self::only) limits the faults to some requests. Connectors can be nested to inject different faults into
/// different requests.
#[derive(Clone)]
pub struct FaultyConnector<C> {
    connector: C,
    faults: Faults,
    filter: Arc<Filter>,
}

/// Returns whether faults are injected into a request, given its operation and its body.
type Filter = dyn Fn(&str, &str) -> bool + Send + Sync;

/// The error codes of refusals other than throttling.
const REFUSALS: [&str; 5] = [
    "ExpiredTokenException",
    "AccessDeniedException",
    "ValidationException",
    "UnrecognizedClientException",
    "ResourceNotFoundException",
];

/// The statuses and bodies of responses that are not from DynamoDB, or are truncated: `None` is the first half of the
/// real body.
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
    /// Returns a connector that injects `faults` into the requests of `connector`.
    #[must_use]
    pub fn new(connector: C, faults: Faults) -> Self {
        Self { connector, faults, filter: Arc::new(|_, _| true) }
    }

    /// Injects faults only into requests for which `filter` returns `true`. It is called with the name of the
    /// operation, such as `PutItem`, and with the body (default: all requests).
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
    pub fn only(mut self, filter: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Arc::new(filter);
        self
    }

    /// Returns the connector in the form that the SDK takes.
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
        if !(self.filter)(&operation, &String::from_utf8_lossy(body)) {
            return connector.call(request);
        }
        match self.faults.next() {
            None => connector.call(request),
            Some(Fault::TransactionConflict) if operation == "TransactWriteItems" => {
                HttpConnectorFuture::ready(conflict_of(&request))
            }
            Some(Fault::PageCut(part)) if operation == "Query" => HttpConnectorFuture::new(async move {
                let response = connector.call(request).await?;
                cut(response, part)
            }),
            Some(Fault::TransactionConflict | Fault::PageCut(_) | Fault::Stale(_)) => connector.call(request),
            Some(Fault::Delayed(delay)) => HttpConnectorFuture::new(async move {
                tokio::time::sleep(delay).await;
                connector.call(request).await
            }),
            Some(Fault::AnswerLost) => HttpConnectorFuture::new(async move {
                let _ = connector.call(request).await;
                Err(ConnectorError::io("the response was lost on purpose".into()))
            }),
            Some(Fault::AnswerUnreadable(which)) => {
                // Half of the requests are executed.
                let (is_executed, which) = (which >= 0.5, which * 2.0 % 1.0);
                let (status, body) = *select(&UNREADABLE, which);
                HttpConnectorFuture::new(async move {
                    let real = if is_executed { Some(connector.call(request).await?) } else { None };
                    let whole = real.as_ref().and_then(|real| real.body().bytes()).unwrap_or_default();
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

/// Selects an element by a number from 0 to 1.
fn select<T>(all: &[T], which: f64) -> &T {
    &all[((which * all.len() as f64) as usize).min(all.len() - 1)]
}

/// Returns the response with which the service refuses a request.
fn refusal(status: u16, code: &str) -> Result<HttpResponse, ConnectorError> {
    let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
    response(status, json!({ "__type": code, "message": "on purpose" }).to_string())
}

/// Returns the response to a transaction whose first item is in another transaction.
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

/// Truncates the response to a Query, as if it had reached the maximum size of a page.
fn cut(whole: HttpResponse, part: f64) -> Result<HttpResponse, ConnectorError> {
    let status = whole.status().as_u16();
    let mut body: Value = read(whole.body())?;
    let Some(items) = body.get_mut("Items").and_then(Value::as_array_mut).filter(|items| items.len() > 1)
    else {
        return Ok(whole);
    };
    let kept = 1 + ((items.len() - 1) as f64 * part) as usize;
    if kept == items.len() {
        return Ok(whole);
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
