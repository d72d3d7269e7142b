//! The health check.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use es_core::workers::{WorkerState, WorkersHealth};
use serde::Serialize;

/// Whether the workers beside the API run.
#[derive(Serialize)]
pub struct Health {
    healthy: bool,
    workers: Vec<WorkerView>,
}

/// A worker. Its last error is for the log, not for clients.
#[derive(Serialize)]
struct WorkerView {
    name: String,
    #[serde(flatten)]
    state: WorkerState,
}

/// `GET /health`
///
/// Use it for alarms and readiness. Commands do not need the workers, and a restart of the process does not repair a
/// worker that fails, so it is no liveness check.
pub async fn health(State(health): State<WorkersHealth>) -> (StatusCode, Json<Health>) {
    let workers =
        health.status().into_iter().map(|worker| WorkerView { name: worker.name, state: worker.state });
    let workers: Vec<_> = workers.collect();
    let healthy = workers.iter().all(|worker| worker.state.is_healthy());
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { healthy, workers }))
}
