//! A proxy for PostgreSQL's protocol that loses, delays, and truncates requests and responses.
//!
//! It does not parse the protocol: bytes that a client sends at once are a request, and bytes that the server sends at
//! once are a response. A fault ends the connection, except for a delay.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use es_core::BoxError;
use es_postgres::sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::sleep;

use super::traffic::{SLOW, Traffic};
use crate::store::TIMEOUT;

/// How long to hold back responses: longer than the time limit of a statement.
const STALL: Duration = TIMEOUT.saturating_mul(2);

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

/// The server behind the proxy.
pub(super) struct Server {
    host: String,
    port: u16,
    traffic: Arc<Traffic>,
}

impl Server {
    pub(super) fn new(target: &str, traffic: Arc<Traffic>) -> Result<Self, BoxError> {
        let options: PgConnectOptions = target.parse()?;
        Ok(Self { host: options.get_host().to_owned(), port: options.get_port(), traffic })
    }

    /// Returns the URL `target` with the address of the proxy instead of the server's.
    pub(super) fn url_at(&self, proxy: SocketAddr, target: &str) -> Result<String, BoxError> {
        let url = target.replace(&format!("{}:{}", self.host, self.port), &proxy.to_string());
        if url == target {
            return Err(format!("the URL {target} has no host and port: write both").into());
        }
        Ok(url)
    }

    /// Serves a connection.
    pub(super) async fn serve(self: Arc<Self>, client: TcpStream) {
        // The server may be restarting.
        let Ok(server) = TcpStream::connect((self.host.as_str(), self.port)).await else { return };
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
    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, response: &Mutex<Response>) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
            let request = &buffer[..length];
            self.traffic.count();
            match self.traffic.fault(&FAULTS) {
                None => {}
                Some(Fault::RequestLost) => return,
                Some(Fault::ResponseLost) => set(response, Response::Lost),
                Some(Fault::Truncated) => set(response, Response::Truncated),
                Some(Fault::Stalled) => set(response, Response::Stalled),
                Some(Fault::Slow) => self.traffic.slow().await,
                Some(Fault::Late) => {
                    let delay = TIMEOUT.mul_f64(1.1 + self.traffic.random().f64());
                    let (traffic, request) = (Arc::clone(&self.traffic), request.to_vec());
                    traffic.add_late();
                    // The server may process the request although the connection is then closed.
                    tokio::spawn(async move {
                        sleep(delay).await;
                        drop(to.write_all(&request).await);
                        sleep(SLOW).await;
                        drop(to);
                        traffic.end_late();
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
