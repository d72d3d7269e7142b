//! The HTTP API. Amounts are whole cents, times are UTC, errors are problem details (RFC 9457).
//!
//! | request | carries out |
//! |---|---|
//! | `POST /accounts` | opens an account: `owner`, `number` |
//! | `GET /accounts` | lists the ids of all accounts, page by page: `limit`, `cursor` |
//! | `GET /accounts/{id}` | returns its state; its version is the entity tag |
//! | `DELETE /accounts/{id}` | closes it |
//! | `POST /accounts/{id}/deposits` | puts `amount` on it |
//! | `POST /accounts/{id}/withdrawals` | takes `amount` off it |
//! | `GET /accounts/{id}/history` | returns its events, page by page: `limit`, `cursor` |
//! | `POST /transfers` | moves `amount` `from` one account `to` another |
//! | `GET /health` | returns the state of the workers, with status 503 if one has failed |
//!
//! Requests that change an account support `Idempotency-Key` and `If-Match`; for a transfer, `If-Match` has the version
//! of the paying account. `traceparent` or `X-Request-Id` is recorded with the events, and so is `X-Actor` if the
//! [settings](Settings::trust_actor_header) trust it.

mod accounts;
mod body;
mod conditional;
mod headers;
mod health;
mod history;
mod page;
mod problem;
mod transfers;
mod views;

use std::any::Any;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use es_core::workers::WorkersHealth;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::{RequestBodyDeadlineLayer, TimeoutLayer};

use crate::{Bank, Settings};
use problem::Problem;

/// The maximum size of a request's body, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// Headers of every response. Balances must not be cached, and browsers must not interpret responses as pages. The
/// proxy that terminates TLS adds `Strict-Transport-Security`.
const HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
];

/// The state that the handlers share.
#[derive(Clone)]
struct App {
    bank: Bank,
    health: WorkersHealth,
    trust_actor_header: bool,
}

impl FromRef<App> for Bank {
    fn from_ref(app: &App) -> Self {
        app.bank.clone()
    }
}

impl FromRef<App> for WorkersHealth {
    fn from_ref(app: &App) -> Self {
        app.health.clone()
    }
}

/// The API of `bank`, with the workers of which `health` tells.
pub fn router(bank: Bank, health: WorkersHealth, settings: &Settings) -> Router {
    let router = Router::new()
        .route("/accounts", get(accounts::list).post(accounts::open))
        .route("/accounts/{id}", get(accounts::get).delete(accounts::close))
        .route("/accounts/{id}/deposits", post(accounts::deposit))
        .route("/accounts/{id}/withdrawals", post(accounts::withdraw))
        .route("/accounts/{id}/history", get(history::history))
        .route("/transfers", post(transfers::transfer))
        .route("/health", get(health::health))
        .fallback(async || Problem::plain(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::plain(StatusCode::METHOD_NOT_ALLOWED))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(RequestBodyDeadlineLayer::new(settings.body_timeout))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, settings.request_timeout))
        .layer(map_response(explain_timeout))
        .with_state(App { bank, health, trust_actor_header: settings.trust_actor_header });
    HEADERS.into_iter().fold(router, |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)))
    })
}

/// Replaces the empty response after a timeout by a problem, because the command may have been executed.
async fn explain_timeout(response: Response) -> Response {
    if response.status() == StatusCode::GATEWAY_TIMEOUT {
        return Problem::unknown_outcome().into_response();
    }
    response
}

/// Returns the response after a panic, which is a bug in this program. Its message is logged, but not sent to the
/// client.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::plain(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}
