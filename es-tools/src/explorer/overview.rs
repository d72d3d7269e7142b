//! The start page: projections and processes, the ends of the feed, and the latest commits.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use es_core::event::EventData;
use es_core::feed::{FeedEntry, FeedRead, Position, Slice, SliceTree};
use es_core::projection::{ProjectionStatus, ProjectorError, Registration, registered};
use maud::{Markup, html};

use super::Shared;
use super::page::{Base, Page, Shown, badge, table};
use crate::commands::feed::state as slice_state;
use crate::consumers::{kind, projector, state};
use crate::output::count;
use crate::store::Store;

/// How many of the latest events of each slice the page shows.
const LATEST: u64 = 20;

/// How many slices the page shows.
const SLICES: usize = 50;

/// How many documents of projections the page reads at most. A projection has one for each slice, and they are read in
/// pages of a hundred.
const DOCUMENTS: usize = 5_000;

/// A registered projection or process, with its status unless there are too many.
struct Consumer {
    registration: Registration,
    status: Option<ProjectionStatus>,
}

pub(super) async fn show(State(shared): State<Arc<Shared>>, Extension(base): Extension<Base>) -> Shown {
    let tree = shared.store.slice_tree().await?;
    let number = tree.iter().count();
    let consumers = consumers(&shared.store, DOCUMENTS / number.max(100)).await?;
    let mut slices = Vec::new();
    let mut latest = Vec::new();
    // The children of split slices have the highest numbers.
    let hidden = number.saturating_sub(SLICES);
    for slice in tree.iter().skip(hidden) {
        let end = shared.store.feed_end(slice).await?.position;
        let after = Position::new(end.get().saturating_sub(LATEST));
        let read = FeedRead::new(slice, after).limit(LATEST as u32);
        latest.extend(shared.store.read_feed(&read).await?.entries);
        slices.push((slice, end));
    }
    let is_partial = hidden > 0 || consumers.iter().any(|one| one.status.is_none());
    latest.sort_by_key(|entry| std::cmp::Reverse((entry.commit.time, entry.commit.id)));
    latest.truncate(LATEST as usize);
    let content = html! {
        section {
            h2 { "Projections and processes" }
            @if consumers.is_empty() {
                p { "No projection has run on this store yet." }
            } @else {
                (consumer_table(&base, &consumers, (hidden == 0).then_some(&slices)))
                @if is_partial {
                    p { "Open a projection to see the values that are not shown here, because they take many requests." }
                }
            }
        }
        section {
            h2 { "Feed" }
            (slice_table(&base, &tree, &slices))
            @if hidden > 0 { p { (count(hidden as u64)) " more slices are not shown, nor their commits below." } }
        }
        section {
            h2 { "Latest commits in the feed" }
            @if latest.is_empty() { p { "The feed is empty." } } @else { (commit_table(&base, &latest)) }
        }
    };
    let title = match shared.store.place() {
        ("schema", name) => format!("Schema {name}"),
        (_, name) => format!("Table {name}"),
    };
    Ok(Page::new(title, content))
}

/// Returns all registered projections and processes, the first `shown` of them with their status.
async fn consumers(store: &Store, shown: usize) -> Result<Vec<Consumer>, ProjectorError> {
    let mut all = Vec::new();
    for registration in registered(&**store).await? {
        let status = match all.len() < shown {
            true => Some(projector::<false>(store, &registration).status().await?),
            false => None,
        };
        all.push(Consumer { registration, status });
    }
    Ok(all)
}

/// Returns a table of projections and processes. `ends` are the ends of all slices, unless there are too many.
fn consumer_table(base: &Base, consumers: &[Consumer], ends: Option<&Vec<(Slice, Position)>>) -> Markup {
    let rows = html! {
        @for Consumer { registration, status } in consumers {
            tr {
                th scope="row" { a href=(base.to(&["consumers", &registration.name])) { (registration.name) } }
                td { (kind(registration)) }
                @if let Some(status) = status {
                    td { (badge(state(status))) }
                    td.number { @if let Some(ends) = ends { (count(status.lag(ends))) } @else { "–" } }
                    td.number { (count(status.parked)) }
                    td.number { (status.build) }
                } @else {
                    td { "–" } td.number { "–" } td.number { "–" } td.number { "–" }
                }
            }
        }
    };
    table("Projections and processes", &["name", "kind", "state", ">lag", ">parked", ">build"], &rows)
}

fn slice_table(base: &Base, tree: &SliceTree, slices: &[(Slice, Position)]) -> Markup {
    let rows = html! {
        @for (slice, end) in slices {
            tr {
                th scope="row" { a href={ (base.to(&["feed"])) "?slice=" (slice) } { "slice " (slice) } }
                td.number { (count(end.get())) }
                td { (slice_state(tree, *slice)) }
            }
        }
    };
    table("Slices of the feed", &["slice", ">events", "state"], &rows)
}

/// Returns a table of commits with links to their streams.
pub(super) fn commit_table(base: &Base, entries: &[FeedEntry]) -> Markup {
    let rows = html! {
        @for FeedEntry { stream, commit, position, .. } in entries {
            tr {
                td { (super::page::time(commit.time)) }
                td.number { (position) }
                th scope="row" { a href={ (base.stream(stream)) "?from=" (commit.first) } { (stream) } }
                td { (commit.events.iter().map(EventData::name).collect::<Vec<_>>().join(", ")) }
                td { (commit.metadata.actor().unwrap_or("–")) }
                td { a href=(base.to(&["traces", &commit.id.to_string()])) { "trace" } }
            }
        }
    };
    table("Commits", &["time", ">position", "stream", "events", "actor", "trace"], &rows)
}
