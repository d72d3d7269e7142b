//! A stream, and one of its events: what it contains, and what it has changed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use es_core::event::EventData;
use es_core::store::{Commit, Read};
use es_core::{BoxError, StoreError, StreamId, Version, error_text};
use futures_util::TryStreamExt;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::Shared;
use super::diff::{Change, changes};
use super::page::{Base, Page, Problem, Shown, table, time};
use crate::application::Moment;
use crate::failure::in_commands;
use crate::output::count;
use crate::store::Store;

/// About how many events a page shows.
const EVENTS: u64 = 100;

#[derive(Debug, Deserialize)]
pub(super) struct Part {
    /// The first version to show. The newest events by default.
    from: Option<u64>,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Path(stream): Path<String>,
    Query(part): Query<Part>,
) -> Shown {
    let stream = parsed(&stream)?;
    let head = shared.store.head(&stream).await?.version;
    if head.is_none() {
        return Err(unknown(&stream));
    }
    let newest = head.get().saturating_sub(EVENTS - 1).max(1);
    let from = part.from.unwrap_or(newest).clamp(1, head.get());
    let commits = commits(&shared, &stream, Version::new(from), Version::new(from + EVENTS - 1)).await?;
    let shown = commits.last().map_or(head, Commit::last);
    let to = |from: u64| format!("{}?from={from}", base.stream(&stream));
    let content = html! {
        p { "Version " (count(head.get())) "." }
        (event_table(&shared, &base, &stream, &commits))
        nav.pages aria-label="Parts of the stream" {
            @if from > 1 {
                a href=(to(1)) { "first" } " "
                a href=(to(from.saturating_sub(EVENTS).max(1))) rel="prev" { "previous" } " "
            }
            @if shown < head {
                a href=(to(shown.next().get())) rel="next" { "next" } " "
                a href=(to(newest)) { "newest" }
            }
        }
    };
    Ok(Page::new(stream.to_string(), content))
}

fn event_table(shared: &Shared, base: &Base, stream: &StreamId, commits: &[Commit]) -> Markup {
    let rows = html! {
        @for commit in commits {
            @for (index, (version, _, event)) in commit.numbered().enumerate() {
                tr {
                    th scope="row" {
                        a href=(base.to(&["streams", stream.as_str(), &version.to_string()])) { (version) }
                    }
                    td { (name(event)) }
                    td.number { (count(event.payload().len() as u64)) }
                    @if index == 0 {
                        @let rows = commit.events.len().to_string();
                        td rowspan=(rows) { (time(commit.time)) }
                        td rowspan=(rows) { (commit.metadata.actor().unwrap_or("–")) }
                        @if let Some(units) = units(shared, stream, commit) {
                            td.number rowspan=(rows) { (units) }
                        }
                        td rowspan=(rows) { a href=(base.to(&["traces", &commit.id.to_string()])) { "trace" } }
                    }
                }
            }
        }
    };
    let mut titles = vec!["version", "event", ">bytes", "time", "actor", ">write units", "commit"];
    titles.retain(|title| *title != ">write units" || shared.store.dynamo().is_some());
    table("Events", &titles, &rows)
}

pub(super) async fn show_version(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Path((stream, version)): Path<(String, u64)>,
) -> Shown {
    let stream = parsed(&stream)?;
    let version = Version::new(version);
    let commits = commits(&shared, &stream, version, version).await?;
    let found = commits.iter().find_map(|commit| {
        let (_, id, event) = commit.numbered().find(|(at, ..)| *at == version)?;
        Some((commit, id, event))
    });
    let Some((commit, id, event)) = found else { return Err(unknown(&stream)) };
    let head = shared.store.head(&stream).await?.version;
    let to = |version: Version| base.to(&["streams", stream.as_str(), &version.to_string()]);
    let content = html! {
        nav.pages aria-label="Events of the stream" {
            a href={ (base.stream(&stream)) "?from=" (version.get().saturating_sub(EVENTS / 2).max(1)) } { "stream" } " "
            @if version.get() > 1 { a href=(to(version.previous())) rel="prev" { "previous event" } " " }
            @if version < head { a href=(to(version.next())) rel="next" { "next event" } }
        }
        dl {
            dt { "event" } dd { (name(event)) }
            dt { "time" } dd { (time(commit.time)) }
            dt { "event id" } dd { code { (id) } }
            dt { "commit" }
            dd {
                "versions " (commit.first) " to " (commit.last()) ", "
                @if let Some(units) = units(&shared, &stream, commit) { "write units: " (units) ", " }
                a href=(base.to(&["traces", &commit.id.to_string()])) { "trace" }
            }
            dt { "actor" } dd { (commit.metadata.actor().unwrap_or("–")) }
            dt { "correlation" } dd { (trace_link(&base, commit.metadata.correlation())) }
            dt { "causation" } dd { (trace_link(&base, commit.metadata.causation())) }
        }
        @if shared.shows_payloads {
            (payload(&shared, &stream, version, event).await)
            section {
                h2 { "Metadata" }
                pre tabindex="0" { (pretty(&serde_json::to_value(&*commit.metadata).unwrap_or_default())) }
            }
            (state(&shared, &stream, version).await)
        } @else {
            p.note { "Payloads, metadata, and states are hidden." }
        }
    };
    Ok(Page::new(format!("{stream} at version {version}"), content))
}

/// Returns the payload as it is stored, and as the application decodes it.
async fn payload(shared: &Shared, stream: &StreamId, version: Version, event: &EventData) -> Markup {
    let stored = serde_json::from_str::<Value>(event.payload())
        .map_or_else(|_| event.payload().to_owned(), |value| pretty(&value));
    let upcast = match shared.application.aggregates().get(stream.aggregate()) {
        Some(aggregate) => {
            let opened = opened(shared, stream, version, event).await;
            Some(opened.map_err(BoxError::from).and_then(|event| aggregate.upcast(&event)))
        }
        None => None,
    };
    html! {
        section {
            h2 { "Payload" }
            pre tabindex="0" { (stored) }
            @match &upcast {
                Some(Ok(Some((name, value)))) if pretty(value) != stored => {
                    h3 { "Upcast to " (name) }
                    pre tabindex="0" { (pretty(value)) }
                }
                Some(Ok(Some(_))) => p.note { "The current version of the code reads it unchanged." }
                Some(Ok(None)) => p.note { "The event is retired: the current version of the code skips it." }
                Some(Err(error)) => p.problem { "The current version of the code cannot read it: " (error_text(&**error)) }
                None => {}
            }
        }
    }
}

/// Returns the event with its personal data opened, if the application has a keyring.
async fn opened(
    shared: &Shared,
    stream: &StreamId,
    version: Version,
    event: &EventData,
) -> Result<EventData, StoreError> {
    if !shared.application.has_keyring() {
        return Ok(event.clone());
    }
    let commits = read_commits(&shared.unsealed, stream, version, version).await?;
    let found = commits.iter().flat_map(Commit::numbered).find(|(at, ..)| *at == version);
    Ok(found.map_or(event, |(.., opened)| opened).clone())
}

/// Returns what the event has changed, and the state after it, if the application's types are known.
async fn state(shared: &Shared, stream: &StreamId, version: Version) -> Markup {
    let Some(aggregate) = shared.application.aggregates().get(stream.aggregate()) else {
        return html! {
            p.note { "Mount the explorer in the application, with the types of its aggregates, to see the state." }
        };
    };
    let load = async |version: Version| match version.is_none() {
        true => Ok(None),
        false => aggregate.load(&shared.unsealed, stream.id(), Moment::Version(version)).await.map(Some),
    };
    let (before, after) = match (load(version.previous()).await, load(version).await) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => {
            return html! { p.problem { "The state cannot be loaded: " (in_commands(error_text(&*error))) } };
        }
    };
    let (before, after) = (before.as_ref().map(|one| &one.state), after.as_ref().map(|one| &one.state));
    let changed = changes(before, after);
    let rows = html! {
        @for Change { path, before, after } in &changed {
            tr {
                th scope="row" { @if path.is_empty() { "(state)" } @else { (path) } }
                td { @if let Some(value) = before { del { (short(value)) } } }
                td { @if let Some(value) = after { ins { (short(value)) } } }
            }
        }
    };
    html! {
        section {
            h2 { "Changes of the state" }
            @if changed.is_empty() { p { "The event has changed nothing." } }
            @else { (table("Changes of the state", &["field", "before", "after"], &rows)) }
        }
        section {
            h2 { "State after the event" }
            pre tabindex="0" { (after.map(pretty).unwrap_or_default()) }
        }
    }
}

fn parsed(stream: &str) -> Result<StreamId, Problem> {
    stream.parse().map_err(|error| Problem::invalid(&error))
}

fn unknown(stream: &StreamId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("The stream {stream} has no such event."))
}

/// Reads the commits with events from `from` to `until`.
pub(super) async fn commits(
    shared: &Shared,
    stream: &StreamId,
    from: Version,
    until: Version,
) -> Result<Vec<Commit>, Problem> {
    Ok(read_commits(&shared.store, stream, from, until).await?)
}

async fn read_commits(
    store: &Store,
    stream: &StreamId,
    from: Version,
    until: Version,
) -> Result<Vec<Commit>, StoreError> {
    let mut pages = store.read(Read::all(stream.clone()).after(from.previous()).until(until));
    let mut commits = Vec::new();
    while let Some(page) = pages.try_next().await? {
        commits.extend(page.commits);
    }
    Ok(commits)
}

fn name(event: &EventData) -> Markup {
    html! { (event.name()) @if event.version() != 1 { " v" (event.version()) } }
}

fn trace_link(base: &Base, name: Option<&str>) -> Markup {
    match name {
        Some(name) => html! { a href=(base.to(&["traces", name])) { (name) } },
        None => html! { "–" },
    }
}

/// Returns the write units of a commit on DynamoDB; `None` on PostgreSQL, which has no such units.
fn units(shared: &Shared, stream: &StreamId, commit: &Commit) -> Option<String> {
    let store = shared.store.dynamo()?;
    Some(store.write_units(stream, commit).map_or_else(|_| "–".to_owned(), count))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Returns a value on one line.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        _ => value.to_string(),
    }
}
