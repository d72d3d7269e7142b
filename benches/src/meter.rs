//! Counts requests and capacity units below the SDK, so that all contenders are measured in the same way.
//!
//! Each request is changed to ask for its consumed capacity, and the responses are added up.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::Value;

/// The counted requests and units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub requests: f64,
    pub read_units: f64,
    pub write_units: f64,
}

/// A counter. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    usage: Arc<Mutex<Usage>>,
    /// Selects requests by their bodies; `None` selects all.
    concerns: Option<fn(&Value) -> bool>,
}

impl Meter {
    /// Creates a counter of the requests that `concerns` selects by their bodies.
    pub fn of(concerns: fn(&Value) -> bool) -> Self {
        Self { usage: Arc::default(), concerns: Some(concerns) }
    }

    /// Returns the counts since the last call.
    pub fn take(&self) -> Usage {
        std::mem::take(&mut *self.usage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request that consumes no capacity units.
    fn count_request(&self) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).requests += 1.0;
    }

    fn count(&self, target: &str, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        // Requests that may concern several tables return a list.
        let units: f64 = match &answer["ConsumedCapacity"] {
            Value::Array(tables) => tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum(),
            table => table["CapacityUnits"].as_f64().unwrap_or_default(),
        };
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.requests += 1.0;
        match is_read(target) {
            true => usage.read_units += units,
            false => usage.write_units += units,
        }
    }
}

fn is_read(target: &str) -> bool {
    ["Query", "GetItem", "Scan"].iter().any(|operation| target.ends_with(operation))
}

/// Returns whether the operation can report its consumed capacity.
fn is_metered(target: &str) -> bool {
    is_read(target)
        || ["PutItem", "UpdateItem", "DeleteItem", "WriteItem", "WriteItems"]
            .iter()
            .any(|operation| target.ends_with(operation))
}

/// A connector that counts requests.
#[derive(Clone, Debug)]
pub struct MeteredConnector {
    inner: SharedHttpConnector,
    meter: Meter,
}

impl MeteredConnector {
    pub fn new(inner: SharedHttpConnector, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl HttpConnector for MeteredConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let asked = request.body().bytes().and_then(|body| serde_json::from_slice(body).ok());
        if self.meter.concerns.is_some_and(|concerns| !asked.as_ref().is_some_and(concerns)) {
            return self.inner.call(request);
        }
        if !is_metered(&target) {
            self.meter.count_request();
            return self.inner.call(request);
        }
        if let Some(body) = asked.and_then(asking_for_units) {
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body);
        }
        let (inner, meter) = (self.inner.clone(), self.meter.clone());
        HttpConnectorFuture::new(async move {
            let response = inner.call(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = ByteStream::new(response.into_body())
                .collect()
                .await
                .map_err(|error| ConnectorError::other(error.into(), None))?
                .into_bytes();
            meter.count(&target, &body);
            let mut response = HttpResponse::new(status, SdkBody::from(body));
            *response.headers_mut() = headers;
            Ok(response)
        })
    }
}

/// Returns the body of a request with `ReturnConsumedCapacity` set.
fn asking_for_units(mut body: Value) -> Option<Vec<u8>> {
    body.as_object_mut()?.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
    serde_json::to_vec(&body).ok()
}

/// A counter for a client that creates its own connectors.
#[derive(Clone, Debug)]
pub struct MeteredClient {
    inner: SharedHttpClient,
    meter: Meter,
}

impl MeteredClient {
    pub fn new(inner: SharedHttpClient, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl HttpClient for MeteredClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(MeteredConnector::new(inner, self.meter.clone()))
    }
}
