//! Search by id, claim, idempotency key, and correlation.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use es_core::StreamId;
use es_core::chrono::Utc;
use es_core::projection::registered;
use es_core::store::{Claim, IdempotencyKey};
use maud::html;
use serde::Deserialize;

use super::Shared;
use super::page::{Base, Page, Problem, Shown, table, time};

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Stream,
    Trace,
    Claim,
    Key,
}

#[derive(Debug, Deserialize)]
pub(super) struct Search {
    kind: Kind,
    text: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct KeyOf {
    /// The stream of the key. A key of a transaction has none.
    stream: Option<String>,
}

pub(super) async fn find(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Query(search): Query<Search>,
) -> Result<Response, Problem> {
    let text = search.text.trim();
    let to = |segments: &[&str]| Redirect::to(&base.to(segments)).into_response();
    match search.kind {
        Kind::Trace => Ok(to(&["traces", text])),
        Kind::Stream if text.contains('#') => Ok(to(&["streams", text])),
        Kind::Stream => by_id(&shared, &base, text).await,
        Kind::Claim => {
            let Some((name, value)) = text.split_once('=') else {
                return Err(Problem::new(
                    axum::http::StatusCode::BAD_REQUEST,
                    "Write a claim as its name, =, and its value, such as email=ann@example.com.",
                ));
            };
            let claim = Claim::new(name.trim(), value.trim()).map_err(|error| Problem::invalid(&error))?;
            match shared.store.claim_holder(&claim).await?.stream {
                Some(stream) => Ok(to(&["streams", stream.as_str()])),
                None => Err(Problem::not_found(format!("No stream holds the claim {name} to this value."))),
            }
        }
        // The key of a command: its stream, a space, and the key. The key of a transaction is written alone.
        Kind::Key => match text.split_once(' ') {
            Some((stream, key)) if stream.parse::<StreamId>().is_ok() => {
                let stream: String = form_urlencoded::byte_serialize(stream.as_bytes()).collect();
                let path = base.to(&["keys", key.trim()]);
                Ok(Redirect::to(&format!("{path}?stream={stream}")).into_response())
            }
            _ => Ok(to(&["keys", text])),
        },
    }
}

/// Finds the aggregates with an id, among the types of the application and those whose ids a projection lists.
async fn by_id(shared: &Shared, base: &Base, id: &str) -> Result<Response, Problem> {
    let mut names: BTreeSet<String> =
        shared.application.aggregates().keys().map(ToString::to_string).collect();
    for projection in registered(&*shared.store).await? {
        names.extend(projection.name.strip_prefix("$ids.").map(str::to_owned));
    }
    let mut found = Vec::new();
    for name in &names {
        let Ok(stream) = StreamId::new(name, id) else { continue };
        if !shared.store.head(&stream).await?.version.is_none() {
            found.push(stream);
        }
    }
    match &found[..] {
        [] => Err(Problem::not_found(format!(
            "No aggregate has the id {id}. Write the name of the aggregate, too, such as order#{id}."
        ))),
        [stream] => Ok(Redirect::to(&base.stream(stream)).into_response()),
        _ => {
            let list =
                html! { ul { @for stream in &found { li { a href=(base.stream(stream)) { (stream) } } } } };
            Ok(Page::new(format!("Aggregates with the id {id}"), list).into_response())
        }
    }
}

pub(super) async fn show_key(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Path(key): Path<String>,
    Query(of): Query<KeyOf>,
) -> Shown {
    let stream = of.stream.map(|stream| stream.parse::<StreamId>()).transpose();
    let stream = stream.map_err(|error| Problem::invalid(&error))?;
    let stored = IdempotencyKey::new(stream, &key).map_err(|error| Problem::invalid(&error))?;
    let Some(record) = shared.store.idempotency_record(&stored).await?.record else {
        return Err(Problem::not_found(
            "There is no record under this key: it was never used, or was deleted after it expired. The key of a command \
             belongs to a stream: write the stream, a space, and the key.",
        ));
    };
    let is_valid = record.is_valid_at(Utc::now());
    let rows = html! {
        @for range in &record.ranges {
            tr {
                th scope="row" { a href={ (base.stream(&range.stream)) "?from=" (range.first) } { (range.stream) } }
                td { @if range.is_empty() { "none" } @else { (range.first) " to " (range.last) } }
            }
        }
    };
    let content = html! {
        p { @if is_valid { "Expires at " } @else { "Expired at " } (time(record.expires)) "." }
        (table("Recorded events", &["stream", "events"], &rows))
    };
    Ok(Page::new(format!("Idempotency key {key}"), content))
}
