//! Requests that fail on purpose, below the SDK: where networks and servers fail.

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use es_core::testing::{Fault, Faults};
use serde_json::{Value, json};

/// A connector whose requests fail as [`Faults`] plans it.
///
/// The SDK sees what it would see of a network or a server that fails, and does what it would do then: its
/// own retries are part of what is tested.
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
#[derive(Clone, Debug)]
pub struct FaultyConnector<C> {
    connector: C,
    faults: Faults,
}

impl<C: HttpConnector + Clone + 'static> FaultyConnector<C> {
    /// `connector`, with `faults`.
    #[must_use]
    pub fn new(connector: C, faults: Faults) -> Self {
        Self { connector, faults }
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
            Some(Fault::Throttled) => HttpConnectorFuture::ready(refusal(400, "ThrottlingException")),
            Some(Fault::InternalError) => HttpConnectorFuture::ready(refusal(500, "InternalServerError")),
            Some(_) => {
                HttpConnectorFuture::ready(Err(ConnectorError::io("the request was lost on purpose".into())))
            }
        }
    }
}

/// What the service says when it refuses.
fn refusal(status: u16, code: &str) -> Result<HttpResponse, ConnectorError> {
    let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
    response(status, &json!({ "__type": code, "message": "on purpose" }))
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
    response(400, &cancelled)
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
    response(status, &body)
}

fn read(body: &SdkBody) -> Result<Value, ConnectorError> {
    serde_json::from_slice(body.bytes().unwrap_or_default())
        .map_err(|error| ConnectorError::other(error.into(), None))
}

fn response(status: u16, body: &Value) -> Result<HttpResponse, ConnectorError> {
    let status = StatusCode::try_from(status).map_err(|error| ConnectorError::other(error.into(), None))?;
    let body = body.to_string();
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    Ok(response)
}
