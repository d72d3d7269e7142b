//! Counting requests and capacity units below the SDK, so that every contender is measured the same way.
//!
//! Each request is made to ask for the units it consumes, whether the contender asks for them or not, and
//! the answers are added up.

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

/// What was counted.
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
    /// Of which requests, by their bodies; of all when it is missing.
    concerns: Option<fn(&Value) -> bool>,
}

impl Meter {
    /// A counter of those requests only that are such ones by their bodies.
    pub fn of(concerns: fn(&Value) -> bool) -> Self {
        Self { usage: Arc::default(), concerns: Some(concerns) }
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Usage {
        std::mem::take(&mut *self.usage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, target: &str, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        // A list where a request may concern several tables.
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

/// Whether the operation can tell what it consumes.
fn is_metered(target: &str) -> bool {
    is_read(target)
        || ["PutItem", "UpdateItem", "DeleteItem", "WriteItem", "WriteItems"]
            .iter()
            .any(|operation| target.ends_with(operation))
}

/// A connector whose requests are counted.
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
        if !is_metered(&target) {
            return self.inner.call(request);
        }
        let asked = request.body().bytes().and_then(|body| serde_json::from_slice(body).ok());
        if self.meter.concerns.is_some_and(|concerns| !asked.as_ref().is_some_and(concerns)) {
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

/// The request's body, with the wish to be told what it consumes.
fn asking_for_units(mut body: Value) -> Option<Vec<u8>> {
    body.as_object_mut()?.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
    serde_json::to_vec(&body).ok()
}

/// The same for a client that makes its connectors itself.
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
