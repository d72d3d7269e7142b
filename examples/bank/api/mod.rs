//! The HTTP API. Amounts are whole cents, times are UTC, errors are problem details (RFC 9457).
//!
//! | request | carries out |
//! |---|---|
//! | `POST /accounts` | opens an account: `owner`, `number` |
//! | `GET /accounts/{id}` | tells its state; its version is the entity tag |
//! | `DELETE /accounts/{id}` | closes it |
//! | `POST /accounts/{id}/deposits` | puts `amount` on it |
//! | `POST /accounts/{id}/withdrawals` | takes `amount` off it |
//! | `GET /accounts/{id}/history` | tells all that happened to it |
//! | `POST /transfers` | moves `amount` `from` one account `to` another |
//!
//! What changes an account heeds `If-Match`, for a transfer with the version of the account that the money comes
//! from, and `Idempotency-Key`. `X-Actor`, and `traceparent` or `X-Request-Id`, are recorded with the events.

mod accounts;
mod body;
mod conditional;
mod headers;
mod problem;
mod transfers;
mod views;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::Bank;
use problem::Problem;

/// The API of `bank`.
pub fn router(bank: Bank) -> Router {
    Router::new()
        .route("/accounts", post(accounts::open))
        .route("/accounts/{id}", get(accounts::get).delete(accounts::close))
        .route("/accounts/{id}/deposits", post(accounts::deposit))
        .route("/accounts/{id}/withdrawals", post(accounts::withdraw))
        .route("/accounts/{id}/history", get(accounts::history))
        .route("/transfers", post(transfers::transfer))
        .fallback(async || Problem::plain(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::plain(StatusCode::METHOD_NOT_ALLOWED))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .with_state(bank)
}
