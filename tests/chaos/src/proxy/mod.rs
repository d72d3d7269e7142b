//! The proxies between the processes and the server.

mod http;
mod postgres;

use es_core::BoxError;

/// A proxy in front of a server. Dropping it ends it.
pub(crate) enum Proxy {
    Http(http::Proxy),
    Postgres(postgres::Proxy),
}

impl Proxy {
    /// Listens on a free local port, and forwards to the server at the URL `target`. A fraction `rate` of the requests
    /// has a fault.
    pub(crate) async fn start(target: &str, seed: u64, rate: f64) -> Result<Self, BoxError> {
        match target.starts_with("http") {
            true => Ok(Self::Http(http::Proxy::start(target, seed, rate).await?)),
            false => Ok(Self::Postgres(postgres::Proxy::start(target, seed, rate).await?)),
        }
    }

    /// Returns the URL that clients use.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Http(proxy) => proxy.url(),
            Self::Postgres(proxy) => proxy.url(),
        }
    }

    /// Stops injecting faults.
    pub(crate) fn heal(&self) {
        match self {
            Self::Http(proxy) => proxy.heal(),
            Self::Postgres(proxy) => proxy.heal(),
        }
    }

    /// Waits until all late and slow requests of ended processes are forwarded.
    pub(crate) async fn settle(&self) {
        match self {
            Self::Http(proxy) => proxy.settle().await,
            Self::Postgres(proxy) => proxy.settle().await,
        }
    }

    /// Returns the number of requests, and how many of them had a fault.
    pub(crate) fn counts(&self) -> (u64, u64) {
        match self {
            Self::Http(proxy) => proxy.counts(),
            Self::Postgres(proxy) => proxy.counts(),
        }
    }
}
