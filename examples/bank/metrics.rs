//! Metrics for Prometheus, on a separate address: they are not meant for the clients of the bank.

use std::error::Error;
use std::future::ready;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

/// The buckets of durations, in seconds.
const SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// The buckets of all other histograms: events, attempts, commits, and capacity units.
const NUMBERS: &[f64] =
    &[0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// The interval at which recorded values are moved to the histograms, so that they need little memory without scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder, and serves its metrics at `address` until the process ends. Returns the address that it
/// listens on.
///
/// # Errors
///
/// An error if another recorder is installed, or if the address is in use.
pub async fn serve(address: SocketAddr) -> Result<SocketAddr, Box<dyn Error>> {
    let handle = PrometheusBuilder::new()
        .set_buckets(NUMBERS)?
        .set_buckets_for_metric(Matcher::Suffix("duration".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("lag".to_owned()), SECONDS)?
        .install_recorder()?;
    es_core::metrics::describe();

    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(upkeep(handle.clone()));
    let router = Router::new().route("/metrics", get(move || ready(handle.render())));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}
