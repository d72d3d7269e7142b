//! Serving the API to clients that may be slow, broken, or hostile: every wait for a client is bounded.
//!
//! Put a proxy or load balancer in front of it that terminates TLS, authenticates clients, and limits their rate.

use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use es_core::workers::WorkersHealth;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Bank, api};

/// The largest request head: the request line and all headers, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long to wait before accepting again after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The settings of the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The maximum number of open connections (default: 1,024). Further connections wait to be accepted.
    pub max_connections: NonZeroUsize,
    /// The time that a client may take to send the head of a request, and that a connection may be idle between two
    /// requests (default: 10 s). Afterwards, the connection is closed.
    pub head_timeout: Duration,
    /// The time that a client may take to send the body of a request (default: 10 s). Afterwards, the response is 408.
    pub body_timeout: Duration,
    /// The total time that a request may take (default: 30 s). Afterwards, the response is 503.
    pub request_timeout: Duration,
    /// The maximum lifetime of a connection (default: 10 min). Afterwards, the request in progress is completed and the
    /// connection is closed, so that a client that never reads its responses cannot hold it.
    pub connection_lifetime: Duration,
    /// The time that requests in progress may take at shutdown (default: 10 s). Afterwards, their connections are
    /// closed.
    pub shutdown_timeout: Duration,
    /// Whether the header `X-Actor` names the actor of a request (default: `false`, which ignores the header).
    ///
    /// Every client can send this header. Set it only behind a proxy that authenticates clients and replaces the
    /// header.
    pub trust_actor_header: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: NonZeroUsize::new(1024).expect("1,024 is not zero"),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            connection_lifetime: Duration::from_mins(10),
            shutdown_timeout: Duration::from_secs(10),
            trust_actor_header: false,
        }
    }
}

/// Serves the API until `shutdown` completes. `health` is that of the workers beside it. Requests in progress are then
/// completed, for at most [`shutdown_timeout`](Settings::shutdown_timeout).
pub async fn serve(
    listener: TcpListener,
    bank: Bank,
    health: WorkersHealth,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) {
    let api = api::router(bank, health, &settings);
    let free = Arc::new(Semaphore::new(settings.max_connections.get()));
    let connections = TaskTracker::new();
    let closing = CancellationToken::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            accepted = accept(&listener, &free) => accepted,
            () = &mut shutdown => break,
        };
        let connection = serve_connection(stream, api.clone(), settings.clone(), closing.clone());
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    }

    // Frees the port for the next process while the last requests are completed.
    drop(listener);
    closing.cancel();
    connections.close();
    connections.wait().await;
}

/// Waits until another connection is allowed, and accepts it.
async fn accept(listener: &TcpListener, free: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(free).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                eprintln!("error: cannot accept connections: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Returns whether the error concerns a client that has disconnected, and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_connection(stream: TcpStream, api: Router, settings: Settings, closing: CancellationToken) {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_header_size(MAX_HEAD_BYTES);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(api));
    let mut connection = pin!(connection);
    // An error of a connection, such as a malformed request, concerns only the client.
    tokio::select! {
        _ = &mut connection => return,
        () = closing.cancelled() => {}
        () = sleep(settings.connection_lifetime) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(settings.shutdown_timeout, connection).await;
}
