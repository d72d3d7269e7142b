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

/// How long a request without a response waits: longer than the SDK does.
const STALL: Duration = Duration::from_secs(20);
/// How late a request may arrive: after the SDK has given up an attempt, which it does after 5 s.
const LATE: std::ops::Range<u64> = 5_500..12_000;
/// How slow a request may be.
const SLOW: Duration = Duration::from_millis(500);

/// What may happen to a request.
#[derive(Clone, Copy)]
enum Fault {
    /// It does not arrive; the connection is closed.
    RequestLost,
    /// It is carried out; the connection is closed before the response.
    ResponseLost,
    /// It is carried out, its response is lost, and its repetition gets an error of another kind.
    ResponseLostThenRefused,
    /// It is carried out, and answered with a 500.
    ErrorAfterwards,
    /// It is not carried out, and answered with a 500.
    ErrorInstead,
    /// It is not carried out, and throttled.
    Throttled,
    /// It is not carried out, and refused for another reason, such as expired credentials.
    Refused,
    /// It is carried out, and the response has no content.
    Empty,
    /// It is carried out, and the response is `{}`.
    Braces,
    /// It is carried out, and half of the response arrives.
    Truncated,
    /// It is carried out, and the response does not arrive in time.
    Stalled,
    /// It is carried out after its sender has given up, or has died.
    Late,
    /// It takes some time.
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

/// Errors that say that nothing was carried out, which is true of the attempt that they answer.
const REFUSALS: [&str; 4] =
    ["ExpiredTokenException", "AccessDeniedException", "ValidationException", "ResourceNotFoundException"];

/// A proxy in front of a server; it ends when it is dropped.
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
    /// Requests that are still to be carried out, after their senders have given up.
    late: AtomicU64,
    requests: AtomicU64,
    faults: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of this machine, in front of `target`; `rate` of the requests meet a fault.
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

    /// Lets all requests from here on pass.
    pub(crate) fn heal(&self) {
        self.state.is_healed.store(true, Ordering::SeqCst);
    }

    /// Waits until no late or slow request of a process that has ended is on its way.
    pub(crate) async fn settle(&self) {
        while self.state.late.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(SLOW * 2).await;
    }

    /// Returns how many requests there were, and how many of them met a fault.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.state.requests.load(Ordering::SeqCst), self.state.faults.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Why a connection is closed.
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
    // A connection that ends with an error was closed on purpose, or by a process that was killed.
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

    /// What arrives of the response to a request that was carried out.
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
        // The length is that of the body that is passed on, which may be damaged.
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
