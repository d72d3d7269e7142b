//! Errors for clients: problem details (RFC 9457).

use std::error::Error;
use std::mem;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use es_core::read_model::ReadModelError;
use es_core::repository::TransactionError;
use es_core::store::Conflict;
use es_core::{ExecuteError, StoreError};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::conditional::etag;
use crate::domain::AccountError;

/// The reason why a request was not executed. It contains no internal details.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(flatten)]
    members: Map<String, Value>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// Creates a problem with a type that clients can recognize.
    pub fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("https://bank.example/problems/{kind}"),
            title,
            status,
            detail: detail.into(),
            members: Map::new(),
            headers: Vec::new(),
        }
    }

    /// Creates a problem that its status describes completely.
    pub fn plain(status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank".to_owned(), ..Self::new(status, "", title, title) }
    }

    /// Creates the problem of a request with an invalid field or header.
    pub fn malformed(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-request", "The request is malformed", detail)
            .with("field", field)
    }

    /// Creates the problem of an idempotency key that was used for a different request.
    pub fn key_reused() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "The idempotency key was used for another request",
            "a key belongs to one request and its repetitions: take a new one",
        )
    }

    /// Creates the problem of a request that may have been executed.
    pub fn unknown_outcome() -> Self {
        busy("whether it was carried out is unknown: repeat it under an idempotency key, or look")
    }

    /// Adds a member.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let headers = mem::take(&mut self.headers);
        let mut response = (self.status, Json(self)).into_response();
        response.headers_mut().extend(headers);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        let (status, kind, title) = match error {
            AccountError::Unknown => (StatusCode::NOT_FOUND, "unknown-account", "There is no such account"),
            AccountError::AlreadyOpen => (StatusCode::CONFLICT, "account-exists", "The account exists"),
            AccountError::Closed => (rejected(), "account-closed", "The account is closed"),
            AccountError::NoOwner => (rejected(), "no-owner", "An account needs an owner"),
            AccountError::NoAmount => (rejected(), "no-amount", "There is nothing to move"),
            AccountError::Overdrawn { .. } => (rejected(), "overdrawn", "There is too little on the account"),
            AccountError::Full => (rejected(), "account-full", "There is too much on the account"),
            AccountError::SameAccount => (rejected(), "same-account", "A transfer needs two accounts"),
            AccountError::NotEmpty { .. } => (rejected(), "account-not-empty", "The account is not empty"),
        };
        let problem = Self::new(status, kind, title, error.to_string());
        match error {
            AccountError::Overdrawn { balance, wanted } => {
                problem.with("balance", balance.in_cents()).with("amount", wanted.in_cents())
            }
            AccountError::NotEmpty { balance } => problem.with("balance", balance.in_cents()),
            _ => problem,
        }
    }
}

/// Returns the status of a rejection by the domain.
fn rejected() -> StatusCode {
    StatusCode::UNPROCESSABLE_ENTITY
}

impl From<ExecuteError<AccountError>> for Problem {
    fn from(error: ExecuteError<AccountError>) -> Self {
        match error {
            ExecuteError::Rejected(error) => error.into(),
            ExecuteError::Outdated(conflict) => outdated(&conflict),
            error => failed(error),
        }
    }
}

impl From<TransactionError> for Problem {
    fn from(error: TransactionError) -> Self {
        match &error {
            ExecuteError::Rejected(rejection) => match rejection.downcast_ref::<AccountError>() {
                Some(refusal) => Self::from(refusal.clone()).with("account", rejection.stream().id()),
                None => internal(&error),
            },
            ExecuteError::Outdated(conflict) => outdated(conflict).with("account", conflict.stream.id()),
            _ => failed(error),
        }
    }
}

/// Returns the problem of an account at another version than expected, or of an account that does not exist.
fn outdated(conflict: &Conflict) -> Problem {
    let Some(version) = conflict.actual.filter(|version| !version.is_none()) else {
        return AccountError::Unknown.into();
    };
    let detail = format!("the account has gone on: it is at version {version}");
    let title = "The account is at another version";
    let mut problem = Problem::new(StatusCode::PRECONDITION_FAILED, "outdated", title, detail)
        .with("version", version.get());
    problem.headers.push(etag(version));
    problem
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_retryable() {
            busy("the accounts cannot be read at the moment")
        } else {
            internal(&error)
        }
    }
}

impl From<ReadModelError> for Problem {
    fn from(error: ReadModelError) -> Self {
        match error {
            ReadModelError::PageToken { .. } => {
                Self::malformed("cursor", "`cursor` is the `next` of a page of this list")
            }
            ReadModelError::Store(error) => error.into(),
            error => internal(&error),
        }
    }
}

/// Returns the problem of a failure other than a rejection by the domain.
fn failed<E: Error + 'static>(error: ExecuteError<E>) -> Problem {
    match error {
        // The holder of the claim is not revealed: it is another customer's account.
        ExecuteError::Claimed(_) => Problem::new(
            StatusCode::CONFLICT,
            "number-taken",
            "The account number is taken",
            "another account has this number",
        )
        .with("field", "number"),
        ExecuteError::KeyReused(_) => Problem::key_reused(),
        ExecuteError::Conflict(_) => busy("others came first: nothing was changed"),
        error if error.is_outcome_unknown() => Problem::unknown_outcome(),
        error if error.is_retryable() => busy("too many requests: nothing was changed"),
        error => internal(&error),
    }
}

/// Returns the problem of a request that may succeed later: the store is overloaded or unavailable, or every attempt
/// ended with a conflict.
fn busy(detail: &str) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut problem = Problem::new(status, "busy", "The bank is busy", detail);
    problem.headers.push((RETRY_AFTER, HeaderValue::from_static("1")));
    problem
}

/// Returns the problem of an internal error. It is logged, but its details are not sent to the client.
fn internal(error: &(dyn Error + 'static)) -> Problem {
    eprintln!("error: {}", es_core::error_text(error));
    Problem::plain(StatusCode::INTERNAL_SERVER_ERROR)
}
