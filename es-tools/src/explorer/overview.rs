//! The start page: projections and processes, the ends of the feed, and the latest commits.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use es_core::event::EventData;
use es_core::feed::{FeedEntry, FeedRead, Position, Slice, SliceTree};
use maud::{Markup, html};

use super::Shared;
use super::page::{Base, Page, Shown, badge, table};
use crate::commands::feed::state;
use crate::consumers::{Overview, overview};
use crate::output::count;

/// How many of the latest events of each slice the page shows.
const LATEST: u64 = 20;

/// How many slices the page shows.
const SLICES: usize = 50;

pub(super) async fn show(State(shared): State<Arc<Shared>>, Extension(base): Extension<Base>) -> Shown {
    let consumers = overview(&shared.store).await?;
    let mut slices = Vec::new();
    let mut latest = Vec::new();
    let tree = shared.store.slice_tree().await?;
    // The children of split slices have the highest numbers.
    let hidden = tree.iter().count().saturating_sub(SLICES);
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
            @if consumers.is_empty() {
                p { "No projection has run on this store yet." }
            } @else {
                (consumer_table(&base, &consumers))
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

fn consumer_table(base: &Base, consumers: &[Overview]) -> Markup {
    let rows = html! {
        @for one in consumers {
            tr {
                th scope="row" { a href=(base.to(&["consumers", &one.registration.name])) { (one.registration.name) } }
                td { (one.kind()) }
                td { (badge(one.state())) }
                td.number { (count(one.progress.lag())) }
                td.number { (count(one.parked())) }
                td.number { (one.progress.build) }
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
                td { (state(tree, *slice)) }
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
