//! An HTTP proxy that loses, damages, and delays requests and responses.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use es_core::BoxError;
use fastrand::Rng;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How long to hold a request without a response: longer than the timeout of the SDK.
const STALL: Duration = Duration::from_secs(20);
/// The delay of late requests: longer than the attempt timeout of the SDK, 5 s.
const LATE: std::ops::Range<u64> = 5_500..12_000;
/// The maximum delay of slow requests.
const SLOW: Duration = Duration::from_millis(500);

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

/// A proxy in front of a server. Dropping it ends it.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    target: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    rate: f64,
    random: Mutex<Rng>,
    /// Requests whose next attempt is refused.
    refused: Mutex<HashSet<u64>>,
    is_healed: AtomicBool,
    /// Late requests that are not forwarded yet.
    late: AtomicU64,
    requests: AtomicU64,
    faults: AtomicU64,
}

impl Proxy {
    /// Listens on a free local port, and forwards to `target`. A fraction `rate` of the requests has a fault.
    pub(crate) async fn start(target: &str, seed: u64, rate: f64) -> Result<Self, BoxError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            target: target.parse()?,
            client: Client::builder(TokioExecutor::new()).build_http(),
            rate,
            random: Mutex::new(Rng::with_seed(seed)),
            refused: Mutex::default(),
            is_healed: AtomicBool::new(false),
            late: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        });
        let accepting = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&state)));
                }
            }
        });
        Ok(Self { address, state, accepting })
    }

    /// The URL that clients use.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops injecting faults.
    pub(crate) fn heal(&self) {
        self.state.is_healed.store(true, Ordering::SeqCst);
    }

    /// Waits until all late and slow requests of ended processes are forwarded.
    pub(crate) async fn settle(&self) {
        while self.state.late.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(SLOW * 2).await;
    }

    /// Returns the number of requests, and how many of them had a fault.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.state.requests.load(Ordering::SeqCst), self.state.faults.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
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

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { state.handle(request).await }
    });
    // A connection ends with an error if it was closed on purpose or its process was killed.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

impl State {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        self.requests.fetch_add(1, Ordering::SeqCst);
        if self.is_healed.load(Ordering::SeqCst) {
            return self.forward(parts, body).await;
        }
        let request = identity(&parts, &body);
        if lock(&self.refused).remove(&request) {
            return Ok(self.refuse());
        }
        let fault = {
            let mut random = lock(&self.random);
            (random.f64() < self.rate).then(|| FAULTS[random.usize(..FAULTS.len())])
        };
        let Some(fault) = fault else { return self.forward(parts, body).await };
        self.faults.fetch_add(1, Ordering::SeqCst);
        match fault {
            Fault::RequestLost => Err(Closed),
            Fault::ErrorInstead => Ok(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")),
            Fault::Throttled => Ok(error(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException")),
            Fault::Refused => Ok(self.refuse()),
            Fault::Late => {
                let delay = Duration::from_millis(lock(&self.random).u64(LATE));
                self.late.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    sleep(delay).await;
                    drop(self.forward(parts, body).await);
                    self.late.fetch_sub(1, Ordering::SeqCst);
                });
                sleep(STALL).await;
                Err(Closed)
            }
            Fault::Slow => {
                let delay = SLOW.mul_f64(lock(&self.random).f64());
                sleep(delay).await;
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
        let index = lock(&self.random).usize(..REFUSALS.len());
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
