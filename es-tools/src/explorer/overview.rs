//! The start page: projections and processes, the ends of the feed, and the latest commits.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use es_core::event::EventData;
use es_core::feed::{FeedEntry, FeedRead, Position, Slice, SliceTree};
use es_core::projection::{ProjectionStatus, ProjectorError, Registration, registered};
use maud::{Markup, html};
use serde::Deserialize;

use super::Shared;
use super::page::{Base, Page, Shown, badge, table};
use crate::commands::feed::state as slice_state;
use crate::consumers::{Kind, projection, state};
use crate::output::count;
use crate::store::Store;

/// How many of the latest events of each slice the page shows.
const LATEST: u64 = 20;

/// How many slices the page shows.
const SLICES: usize = 50;

/// How many documents of projections the page reads at most. A projection has one for each slice, and they are read in
/// pages of a hundred.
const DOCUMENTS: usize = 5_000;

/// The parts of the tables to show.
#[derive(Debug, Deserialize)]
pub(super) struct Part {
    /// The number of projections and processes before the page.
    #[serde(default)]
    consumers: usize,
}

/// A page of the registered projections and processes.
struct Consumers {
    shown: Vec<(Registration, ProjectionStatus)>,
    /// The number of those before the page.
    before: usize,
    /// The number of all.
    all: usize,
    /// The size of a page.
    size: usize,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Query(part): Query<Part>,
) -> Shown {
    let tree = shared.store.slice_tree().await?;
    let number = tree.iter().count();
    let consumers = consumers(&shared.store, part.consumers, DOCUMENTS / number.max(100)).await?;
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
    latest.sort_by_key(|entry| std::cmp::Reverse((entry.commit.time, entry.commit.id)));
    latest.truncate(LATEST as usize);
    let content = html! {
        section {
            h2 { "Projections and processes" }
            @if consumers.all == 0 {
                p { "No projection has run on this store yet." }
            } @else {
                (consumer_table(&base, &consumers.shown, (hidden == 0).then_some(&slices)))
                (consumers.pages(&base))
                @if hidden > 0 {
                    p { "Open a projection to see its lag, which takes a request for each slice." }
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

/// Returns the page with the projection or process after the first `before`. A page has at most `size` of them.
async fn consumers(store: &Store, before: usize, size: usize) -> Result<Consumers, ProjectorError> {
    let (size, registered) = (size.max(1), registered(&**store).await?);
    let all = registered.len();
    // The first projection of a page, also if some were removed meanwhile.
    let before = before.min(all.saturating_sub(1)) / size * size;
    let mut shown = Vec::new();
    for registration in registered.into_iter().skip(before).take(size) {
        let status = projection(store, &registration).status().await?;
        shown.push((registration, status));
    }
    Ok(Consumers { shown, before, all, size })
}

impl Consumers {
    /// Returns the links to the other pages, if there are any.
    fn pages(&self, base: &Base) -> Markup {
        let to = |before: usize| format!("{}?consumers={before}", base.to(&[]));
        let through = self.before + self.shown.len();
        html! {
            @if self.shown.len() < self.all {
                nav.pages aria-label="Parts of the projections and processes" {
                    (self.before + 1) " to " (through) " of " (self.all) ". "
                    @if self.before > 0 {
                        a href=(to(self.before.saturating_sub(self.size))) rel="prev" { "previous" } " "
                    }
                    @if through < self.all { a href=(to(through)) rel="next" { "next" } }
                }
            }
        }
    }
}

/// Returns a table of projections and processes. `ends` are the ends of all slices, unless there are too many.
fn consumer_table(
    base: &Base,
    consumers: &[(Registration, ProjectionStatus)],
    ends: Option<&Vec<(Slice, Position)>>,
) -> Markup {
    let rows = html! {
        @for (registration, status) in consumers {
            tr {
                th scope="row" { a href=(base.to(&["consumers", &registration.name])) { (registration.name) } }
                td { (Kind::of(registration).name()) }
                td { (badge(state(status, ends.map_or(&[][..], |ends| ends)))) }
                td.number { @if let Some(ends) = ends { (count(status.lag(ends))) } @else { "–" } }
                td.number { (count(status.parked)) }
                td.number { (status.build) }
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
