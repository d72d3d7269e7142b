//! Finding out whether the server accepts connections, when a pool has none in time.

use std::time::Duration;

use es_core::error_text;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::errors::{cause, is_full};

/// How long to wait for a connection.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long a result is used, so that requests that fail together do not open a connection each.
const VALID: Duration = Duration::from_secs(1);

/// The result of opening a connection beside the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The server has accepted the connection, so the pool is too small.
    Accepted,
    /// The server has too many connections.
    Full(String),
    /// There is no server, it is starting or stopping, or it does not respond.
    Failed(String),
}

/// Probes the server, one connection at a time.
#[derive(Default)]
pub(super) struct Probes {
    last: Mutex<Option<(Instant, Probe)>>,
}

impl Probes {
    pub(super) async fn probe(&self, pool: &PgPool) -> Probe {
        let mut last = self.last.lock().await;
        if let Some((at, probe)) = &*last
            && at.elapsed() < VALID
        {
            return probe.clone();
        }
        let probe = probe(pool).await;
        *last = Some((Instant::now(), probe.clone()));
        probe
    }
}

async fn probe(pool: &PgPool) -> Probe {
    let options = pool.connect_options();
    match timeout(TIMEOUT, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => {
            // The server also notices if the connection ends without its response.
            let _ = timeout(TIMEOUT, connection.close()).await;
            Probe::Accepted
        }
        Ok(Err(error)) if is_full(&error) => Probe::Full(cause(error).to_string()),
        Ok(Err(sqlx::Error::Io(error))) => Probe::Failed(error_text(&error)),
        Ok(Err(error)) => Probe::Failed(cause(error).to_string()),
        Err(_) => Probe::Failed(format!("no response within {TIMEOUT:?}")),
    }
}
