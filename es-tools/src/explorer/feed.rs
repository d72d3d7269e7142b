//! A part of a slice of the feed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use es_core::feed::{FeedRead, Position, Slice};
use maud::html;
use serde::Deserialize;

use super::Shared;
use super::overview::commit_table;
use super::page::{Base, Page, Problem, Shown};
use crate::output::counted;

/// About how many events a page shows.
const EVENTS: u32 = 50;

#[derive(Debug, Deserialize)]
pub(super) struct Part {
    #[serde(default)]
    slice: u32,
    /// The position after which the page starts. The newest page by default.
    after: Option<u64>,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(base): Extension<Base>,
    Query(part): Query<Part>,
) -> Shown {
    let (tree, slice) = (shared.store.slice_tree().await?, Slice::new(part.slice));
    if !tree.contains(slice) {
        return Err(Problem::not_found(format!("The feed has no slice {slice}.")));
    }
    let end = shared.store.feed_end(slice).await?.position;
    let newest = end.get().saturating_sub(EVENTS.into());
    let after = part.after.unwrap_or(newest).min(end.get());
    let page = shared.store.read_feed(&FeedRead::new(slice, Position::new(after)).limit(EVENTS)).await?;
    let to = |after: u64| format!("{}?slice={slice}&after={after}", base.to(&["feed"]));
    let link =
        |slice: Slice| html! { a href={ (base.to(&["feed"])) "?slice=" (slice) } { "slice " (slice) } };
    let content = html! {
        p {
            (counted(end.get(), "event")) ". "
            @if let Some(parent) = tree.parent(slice) {
                "Its streams come from " (link(parent)) ". "
            }
            @if let Some([first, second]) = tree.children(slice) {
                "It was split, and its streams continue in " (link(first)) " and " (link(second)) ". "
            }
        }
        @if tree.iter().nth(1).is_some() {
            nav.pages aria-label="Slices" {
                @for other in tree.iter().filter(|other| *other != slice) { (link(other)) " " }
            }
        }
        @if page.entries.is_empty() { p { "There are no events after this position." } }
        @else { (commit_table(&base, &page.entries)) }
        nav.pages aria-label="Parts of the feed" {
            @if after > 0 {
                a href=(to(0)) { "first" } " "
                a href=(to(after.saturating_sub(EVENTS.into()))) rel="prev" { "previous" } " "
            }
            @if !page.is_last && page.through < end {
                a href=(to(page.through.get())) rel="next" { "next" } " "
                a href=(to(newest)) { "newest" }
            }
        }
    };
    Ok(Page::new(format!("Feed, slice {slice}"), content))
}
