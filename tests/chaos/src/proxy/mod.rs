//! The proxies between the processes and the server.

mod http;
mod postgres;
mod traffic;

use std::sync::Arc;

use es_core::BoxError;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use traffic::Traffic;

/// A proxy in front of a server. Dropping it ends it.
pub(crate) struct Proxy {
    url: String,
    traffic: Arc<Traffic>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free local port, and forwards to the server at the URL `target`. A fraction `rate` of the requests
    /// has a fault.
    pub(crate) async fn start(target: &str, seed: u64, rate: f64) -> Result<Self, BoxError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let traffic = Arc::new(Traffic::new(seed, rate));
        let (url, accepting) = if target.starts_with("http") {
            let server = Arc::new(http::Server::new(target, Arc::clone(&traffic))?);
            let url = format!("http://{address}");
            (url, tokio::spawn(accept(listener, move |stream| Arc::clone(&server).serve(stream))))
        } else {
            let server = Arc::new(postgres::Server::new(target, Arc::clone(&traffic))?);
            let url = server.url_at(address, target)?;
            (url, tokio::spawn(accept(listener, move |stream| Arc::clone(&server).serve(stream))))
        };
        Ok(Self { url, traffic, accepting })
    }

    /// Returns the URL that clients use.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Stops injecting faults.
    pub(crate) fn heal(&self) {
        self.traffic.heal();
    }

    /// Waits until all late and slow requests of ended processes are forwarded.
    pub(crate) async fn settle(&self) {
        self.traffic.settle().await;
    }

    /// Returns the number of requests, and how many of them had a fault.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.traffic.counts()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves all connections of a listener.
async fn accept<S>(listener: TcpListener, serve: impl Fn(TcpStream) -> S)
where
    S: Future<Output = ()> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream));
    }
}
