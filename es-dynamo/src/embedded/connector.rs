//! The connector between the SDK and the engine, which replaces HTTP.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::operations::{Answer, execute};
use super::storage::Storage;

/// Sends requests of the SDK to an engine.
///
/// As with a network, a request is executed once it has been sent, even if the caller stops waiting for the response.
#[derive(Clone)]
pub struct Connector {
    storage: Arc<Storage>,
    in_place: bool,
}

impl Connector {
    pub(crate) fn new(storage: Arc<Storage>) -> Self {
        Self { storage, in_place: false }
    }

    /// Executes requests immediately on the thread that sends them, which they block.
    ///
    /// Use it in tests that need a deterministic order of requests.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.in_place = true;
        self
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let storage = Arc::clone(&self.storage);
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let Some(body) = request.body().bytes().map(<[u8]>::to_vec) else {
            return HttpConnectorFuture::ready(Err(ConnectorError::user(
                "the request's body is a stream".into(),
            )));
        };
        if self.in_place {
            return HttpConnectorFuture::ready(response(execute(&storage, &target, &body)));
        }
        HttpConnectorFuture::new(async move {
            // The engine blocks while it reads and writes its file.
            let answer = storage
                .blocking(move |storage| execute(storage, &target, &body))
                .await
                .map_err(|error| ConnectorError::other(error.into(), None))?;
            response(answer)
        })
    }
}

fn response(answer: Answer) -> Result<HttpResponse, ConnectorError> {
    let status =
        StatusCode::try_from(answer.status).map_err(|error| ConnectorError::other(error.into(), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    Ok(response)
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// An HTTP client with a single connector.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    connector: SharedHttpConnector,
}

impl Client {
    pub(crate) fn new(connector: SharedHttpConnector) -> Self {
        Self { connector }
    }
}

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.connector.clone()
    }
}
