//! The headers of a request: its actor, its correlation, and the conditions on its execution.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use es_core::Metadata;
use uuid::Uuid;

use super::problem::Problem;
use super::{App, conditional};
use crate::domain::AccountId;
use crate::service::Wish;

/// The header with which a client can repeat a request safely.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl FromRequestParts<App> for Wish {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let headers = &parts.headers;
        // A service that authenticates clients would take the actor from the authentication.
        let actor = if app.trust_actor_header { text(headers, "x-actor")? } else { None };
        let mut metadata = Metadata::new();
        if let Some(actor) = actor {
            metadata = metadata.with_actor(actor);
        }
        if let Some(correlation) = correlation(headers)? {
            metadata = metadata.with_correlation(correlation);
        }
        let key = text(headers, IDEMPOTENCY_KEY)?.map(|key| scoped(key, actor));
        Ok(Self { metadata, key, expected: conditional::if_match(headers)? })
    }
}

/// Returns the stored form of a client's key. Two clients may choose the same key, so it is combined with the actor, in
/// quotes to keep different pairs different. A digest of both is short and reveals no names.
fn scoped(key: &str, actor: Option<&str>) -> Uuid {
    Uuid::new_v5(&KEYS, format!("{actor:?} {key}").as_bytes())
}

/// The namespace of the digests of keys.
const KEYS: Uuid = Uuid::from_u128(0x01f0_6a1c_52d4_7be0_9d3e_6c1b_8a70_42f5);

/// Returns the correlation id of the request: the id of its trace (W3C Trace Context), or its request id.
fn correlation(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    // A malformed trace is ignored, as the specification requires.
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(trace_id);
    match trace {
        Some(trace) => Ok(Some(trace)),
        None => text(headers, "x-request-id"),
    }
}

/// Returns the second part of a header such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    let well_formed = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (well_formed && id.bytes().any(|b| b != b'0')).then_some(id)
}

/// Returns the text of a header, which must be short enough to be stored, and must not be repeated.
fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(text) if (1..=200).contains(&text.len()) && values.next().is_none() => Ok(Some(text)),
        _ => Err(Problem::malformed(
            name,
            format!("`{name}` must have 1 to 200 ASCII characters, and be given once"),
        )),
    }
}

/// The id of the account in the path.
pub struct Target(pub AccountId);

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::plain(StatusCode::NOT_FOUND))?;
        id.parse().map(Self).map_err(|_| Problem::malformed("id", "the id in the path must be a UUID"))
    }
}
