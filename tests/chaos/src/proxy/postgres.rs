//! A proxy for PostgreSQL's protocol that loses, delays, and truncates requests and responses.
//!
//! It does not parse the protocol: bytes that a client sends at once are a request, and bytes that the server sends at
//! once are a response. A fault ends the connection, except for a delay.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use es_core::BoxError;
use es_postgres::sqlx::postgres::PgConnectOptions;
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::store::TIMEOUT;

/// How long to hold back responses: longer than the time limit of a statement.
const STALL: Duration = TIMEOUT.saturating_mul(2);
/// The maximum delay of slow requests.
const SLOW: Duration = Duration::from_millis(500);

/// A fault of a request.
#[derive(Clone, Copy)]
enum Fault {
    /// The request does not arrive, and the connection is closed.
    RequestLost,
    /// The request arrives, and the connection is closed before the response.
    ResponseLost,
    /// The request arrives, and half of the response does.
    Truncated,
    /// The request arrives, and the response does not arrive in time.
    Stalled,
    /// The request arrives after its sender has given up or died.
    Late,
    /// The request is delayed.
    Slow,
}

const FAULTS: [Fault; 6] =
    [Fault::RequestLost, Fault::ResponseLost, Fault::Truncated, Fault::Stalled, Fault::Late, Fault::Slow];

/// What becomes of the next response.
#[derive(Clone, Copy, PartialEq)]
enum Response {
    Forwarded,
    Lost,
    Truncated,
    Stalled,
}

/// A proxy in front of a server. Dropping it ends it.
pub(crate) struct Proxy {
    url: String,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    target: (String, u16),
    rate: f64,
    random: Mutex<Rng>,
    is_healed: AtomicBool,
    /// Late requests that are not forwarded yet.
    late: AtomicU64,
    requests: AtomicU64,
    faults: AtomicU64,
}

impl Proxy {
    pub(crate) async fn start(target: &str, seed: u64, rate: f64) -> Result<Self, BoxError> {
        let options: PgConnectOptions = target.parse()?;
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address: SocketAddr = listener.local_addr()?;
        let url = target.replace(&format!("{host}:{port}"), &address.to_string());
        if url == target {
            return Err(format!("the URL {target} has no host and port: write both").into());
        }
        let state = Arc::new(State {
            target: (host, port),
            rate,
            random: Mutex::new(Rng::with_seed(seed)),
            is_healed: AtomicBool::new(false),
            late: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        });
        let accepting = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&state).serve(stream));
                }
            }
        });
        Ok(Self { url, state, accepting })
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn heal(&self) {
        self.state.is_healed.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn settle(&self) {
        while self.state.late.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(SLOW * 2).await;
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.state.requests.load(Ordering::SeqCst), self.state.faults.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    async fn serve(self: Arc<Self>, client: TcpStream) {
        // The server may be restarting.
        let Ok(server) = TcpStream::connect((self.target.0.as_str(), self.target.1)).await else { return };
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            return;
        }
        let response = Mutex::new(Response::Forwarded);
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            () = self.requests(from_client, to_server, &response) => {}
            () = responses(from_server, to_client, &response) => {}
        }
    }

    /// Forwards requests until one has a fault that ends the connection.
    async fn requests(
        self: &Arc<Self>,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        response: &Mutex<Response>,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
            let request = &buffer[..length];
            self.requests.fetch_add(1, Ordering::SeqCst);
            let fault = self.fault();
            self.faults.fetch_add(u64::from(fault.is_some()), Ordering::SeqCst);
            match fault {
                None => {}
                Some(Fault::RequestLost) => return,
                Some(Fault::ResponseLost) => set(response, Response::Lost),
                Some(Fault::Truncated) => set(response, Response::Truncated),
                Some(Fault::Stalled) => set(response, Response::Stalled),
                Some(Fault::Slow) => sleep(SLOW.mul_f64(self.share())).await,
                Some(Fault::Late) => {
                    let delay = TIMEOUT.mul_f64(1.1 + self.share());
                    let (state, request) = (Arc::clone(self), request.to_vec());
                    state.late.fetch_add(1, Ordering::SeqCst);
                    // The server may process the request although the connection is then closed.
                    tokio::spawn(async move {
                        sleep(delay).await;
                        drop(to.write_all(&request).await);
                        sleep(SLOW).await;
                        drop(to);
                        state.late.fetch_sub(1, Ordering::SeqCst);
                    });
                    sleep(STALL).await;
                    return;
                }
            }
            if to.write_all(request).await.is_err() {
                return;
            }
        }
    }

    fn fault(&self) -> Option<Fault> {
        if self.is_healed.load(Ordering::SeqCst) {
            return None;
        }
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        (random.f64() < self.rate).then(|| FAULTS[random.usize(..FAULTS.len())])
    }

    fn share(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

fn set(response: &Mutex<Response>, to: Response) {
    *response.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

/// Forwards responses until one has a fault.
async fn responses(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, response: &Mutex<Response>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let kind = *response.lock().unwrap_or_else(PoisonError::into_inner);
        let arriving = match kind {
            Response::Forwarded => length,
            Response::Truncated => length / 2,
            Response::Lost => return,
            Response::Stalled => return sleep(STALL).await,
        };
        if to.write_all(&buffer[..arriving]).await.is_err() || kind == Response::Truncated {
            return;
        }
    }
}
