//! HTTP requests as commands.
//!
//! | request | command |
//! |---|---|
//! | `GET /accounts/{id}` | none: returns the balance |
//! | `POST /accounts/{id}/deposits` | [`Deposit`] |
//! | `POST /accounts/{id}/withdrawals` | [`Withdraw`] |
//!
//! Commands need the header `Idempotency-Key`: a client that repeats a request, because it got no response, gets the
//! first outcome.

use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::HeaderValue;
use aws_lambda_events::http::header::{CONTENT_TYPE, RETRY_AFTER};
use es_core::{ExecuteError, Handle, Metadata, Repository, StoreError, error_text};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::account::{Account, Deposit, Refused, Withdraw};

/// The time that a command may take. API Gateway gives up after 30 s.
const DEADLINE: Duration = Duration::from_secs(10);

/// Answers a request.
pub async fn respond(
    accounts: &Repository<Account>,
    request: &ApiGatewayV2httpRequest,
) -> ApiGatewayV2httpResponse {
    let (status, body) = answered(accounts, request).await;
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status;
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == 503 {
        response.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.body = Some(Body::Text(body.to_string()));
    response
}

async fn answered(accounts: &Repository<Account>, request: &ApiGatewayV2httpRequest) -> (i64, Value) {
    let Some(id) = request.path_parameters.get("id") else { return problem(404, "there is no such page") };
    match request.route_key.as_deref() {
        Some("GET /accounts/{id}") => balance(accounts, id).await,
        Some("POST /accounts/{id}/deposits") => execute::<Deposit>(accounts, id, request).await,
        Some("POST /accounts/{id}/withdrawals") => execute::<Withdraw>(accounts, id, request).await,
        _ => problem(404, "there is no such page"),
    }
}

async fn balance(accounts: &Repository<Account>, id: &str) -> (i64, Value) {
    match accounts.load(id).await {
        Ok(account) if account.exists() => (
            200,
            json!({ "account": id, "version": account.version, "balance_cents": account.state.balance }),
        ),
        Ok(_) => problem(404, "there is no such account"),
        Err(error) => store_problem(&error),
    }
}

async fn execute<C>(
    accounts: &Repository<Account>,
    id: &str,
    request: &ApiGatewayV2httpRequest,
) -> (i64, Value)
where
    C: DeserializeOwned + Send + Sync + 'static,
    Account: Handle<C, Error = Refused>,
{
    let Some(key) = request.headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return problem(400, "the header Idempotency-Key is missing");
    };
    let command: C = match serde_json::from_str(request.body.as_deref().unwrap_or_default()) {
        Ok(command) => command,
        Err(error) => return problem(400, &format!("the body is not the command: {error}")),
    };
    let mut metadata = Metadata::new();
    if let Some(id) = &request.request_context.request_id {
        metadata = metadata.with_correlation(id);
    }
    let done = accounts.with_metadata(metadata).once(key).deadline(DEADLINE).execute(id, command).await;
    match done {
        Ok(done) => {
            (200, json!({ "account": id, "version": done.version, "balance_cents": done.state.balance }))
        }
        Err(ExecuteError::Rejected(reason)) => problem(409, &reason.to_string()),
        Err(ExecuteError::KeyReused(error)) => problem(422, &error.to_string()),
        Err(ExecuteError::Store(error)) => store_problem(&error),
        Err(error) if error.is_retryable() => problem(503, "the account is busy"),
        Err(error) => problem(409, &error_text(&error)),
    }
}

fn store_problem(error: &StoreError) -> (i64, Value) {
    if let StoreError::Invalid { reason, .. } = error {
        return problem(400, reason);
    }
    tracing::error!(error = error_text(error), "a request failed");
    if error.is_transient() { problem(503, "try again later") } else { problem(500, "this request failed") }
}

fn problem(status: i64, text: &str) -> (i64, Value) {
    (status, json!({ "error": text }))
}
