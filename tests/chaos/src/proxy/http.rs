//! An HTTP proxy that loses, damages, and delays requests and responses.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use es_core::BoxError;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::traffic::Traffic;

/// How long to hold a request without a response: longer than the timeout of the SDK.
const STALL: Duration = Duration::from_secs(20);
/// The delay of late requests: longer than the attempt timeout of the SDK, 5 s.
const LATE: std::ops::Range<u64> = 5_500..12_000;

/// A fault of a request.
#[derive(Clone, Copy)]
enum Fault {
    /// The request does not arrive, and the connection is closed.
    RequestLost,
    /// The request is applied, and the connection is closed before the response.
    ResponseLost,
    /// The request is applied, its response is lost, and its retry is refused with another error.
    ResponseLostThenRefused,
    /// The request is applied, and the response is a 500.
    ErrorAfterwards,
    /// The request is not applied, and the response is a 500.
    ErrorInstead,
    /// The request is throttled, and not applied.
    Throttled,
    /// The request is refused for another reason, such as expired credentials, and not applied.
    Refused,
    /// The request is applied, and the response is empty.
    Empty,
    /// The request is applied, and the response is `{}`.
    Braces,
    /// The request is applied, and half of the response arrives.
    Truncated,
    /// The request is applied, and the response does not arrive in time.
    Stalled,
    /// The request is applied after its sender has given up or died.
    Late,
    /// The request is delayed.
    Slow,
}

const FAULTS: [Fault; 13] = [
    Fault::RequestLost,
    Fault::ResponseLost,
    Fault::ResponseLostThenRefused,
    Fault::ErrorAfterwards,
    Fault::ErrorInstead,
    Fault::Throttled,
    Fault::Refused,
    Fault::Empty,
    Fault::Braces,
    Fault::Truncated,
    Fault::Stalled,
    Fault::Late,
    Fault::Slow,
];

/// Errors that mean that nothing was applied, which is true of this attempt.
const REFUSALS: [&str; 4] =
    ["ExpiredTokenException", "AccessDeniedException", "ValidationException", "ResourceNotFoundException"];

/// The server behind the proxy.
pub(super) struct Server {
    target: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Requests whose next attempt is refused.
    refused: Mutex<HashSet<u64>>,
    traffic: Arc<Traffic>,
}

/// The reason for closing a connection.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

impl Server {
    pub(super) fn new(target: &str, traffic: Arc<Traffic>) -> Result<Self, BoxError> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { target: target.parse()?, client, refused: Mutex::default(), traffic })
    }

    /// Serves a connection.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(move |request| {
            let server = Arc::clone(&self);
            async move { server.handle(request).await }
        });
        // A connection ends with an error if it was closed on purpose or its process was killed.
        drop(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
        );
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        self.traffic.count();
        if self.traffic.is_healed() {
            return self.forward(parts, body).await;
        }
        let request = identity(&parts, &body);
        if lock(&self.refused).remove(&request) {
            return Ok(self.refuse());
        }
        let Some(fault) = self.traffic.fault(&FAULTS) else { return self.forward(parts, body).await };
        match fault {
            Fault::RequestLost => Err(Closed),
            Fault::ErrorInstead => Ok(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")),
            Fault::Throttled => Ok(error(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException")),
            Fault::Refused => Ok(self.refuse()),
            Fault::Late => {
                let delay = Duration::from_millis(self.traffic.random().u64(LATE));
                self.traffic.add_late();
                tokio::spawn(async move {
                    sleep(delay).await;
                    drop(self.forward(parts, body).await);
                    self.traffic.end_late();
                });
                sleep(STALL).await;
                Err(Closed)
            }
            Fault::Slow => {
                self.traffic.slow().await;
                self.forward(parts, body).await
            }
            carried_out => {
                let response = self.forward(parts, body).await?;
                self.damage(carried_out, request, response).await
            }
        }
    }

    /// Returns the part of the response that arrives.
    async fn damage(
        &self,
        fault: Fault,
        request: u64,
        response: Response<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, Closed> {
        let (parts, body) = response.into_parts();
        match fault {
            Fault::ErrorAfterwards => Ok(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")),
            Fault::Empty => Ok(Response::from_parts(parts, Full::default())),
            Fault::Braces => Ok(Response::from_parts(parts, Full::from("{}"))),
            Fault::Truncated => {
                let Ok(body) = body.collect().await.map(Collected::to_bytes);
                Ok(Response::from_parts(parts, Full::new(body.slice(..body.len() / 2))))
            }
            Fault::Stalled => {
                sleep(STALL).await;
                Err(Closed)
            }
            Fault::ResponseLostThenRefused => {
                lock(&self.refused).insert(request);
                Err(Closed)
            }
            _ => Err(Closed),
        }
    }

    fn refuse(&self) -> Response<Full<Bytes>> {
        let index = self.traffic.random().usize(..REFUSALS.len());
        error(StatusCode::BAD_REQUEST, REFUSALS[index])
    }

    async fn forward(&self, mut parts: Parts, body: Bytes) -> Result<Response<Full<Bytes>>, Closed> {
        let mut uri = self.target.clone().into_parts();
        uri.path_and_query = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from_parts(uri).map_err(|_| Closed)?;
        let request = Request::from_parts(parts, Full::new(body));
        let (mut parts, body) = self.client.request(request).await.map_err(|_| Closed)?.into_parts();
        let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        // The length of the forwarded body, which may be damaged.
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(TRANSFER_ENCODING);
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}

/// Identifies all attempts of one request: by its operation and its body.
fn identity(parts: &Parts, body: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.headers.get("x-amz-target").map(HeaderValue::as_bytes).hash(&mut hasher);
    body.hash(&mut hasher);
    hasher.finish()
}

fn error(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"injected"}}"#);
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "application/x-amz-json-1.0".parse().expect("is a header"));
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
