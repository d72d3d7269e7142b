//! The indexers: the shards of the table's stream, who reads them, and how far behind.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use es_core::chrono::Utc;
use es_dynamo::{Indexer, IndexerShard};
use maud::{Markup, html};

use super::Shared;
use super::page::{Base, Page, Shown, badge, table, time};
use crate::output::{count, seconds};

/// How many shards the page shows.
const SHARDS: usize = 100;

pub(super) async fn show(State(shared): State<Arc<Shared>>, Extension(base): Extension<Base>) -> Shown {
    let Some(store) = shared.store.dynamo() else {
        return Ok(Page::new(
            "Indexers",
            html! { p { "On PostgreSQL, the feed consists of the commits, and no indexer writes it." } },
        ));
    };
    let shards = Indexer::shards(store).await?;
    let (finished, mut open): (Vec<_>, Vec<_>) = shards.into_iter().partition(|shard| shard.is_finished);
    // Those without a heartbeat for the longest time first.
    open.sort_by_key(|shard| shard.heartbeat);
    let content = html! {
        p {
            "Indexers add the commits of the table's stream to the "
            a href=(base.to(&["feed"])) { "feed" }
            ". Each one holds leases on shards."
        }
        @if open.is_empty() && finished.is_empty() {
            p { "No indexer has read the table's stream. (An embedded file has no stream: its indexers have no shards.)" }
        } @else {
            (shard_table(&open[..open.len().min(SHARDS)]))
            @if open.len() > SHARDS { p { (count((open.len() - SHARDS) as u64)) " more shards have newer heartbeats." } }
            p { (count(finished.len() as u64)) " shards are closed and were read to their end." }
        }
    };
    Ok(Page::new("Indexers", content))
}

fn shard_table(shards: &[IndexerShard]) -> Markup {
    let now = Utc::now();
    let rows = html! {
        @for shard in shards {
            tr {
                th scope="row" { code { (shard.id) } }
                td { @match shard.owner { Some(owner) => code { (owner) }, None => (badge("waiting")) } }
                td { (time(shard.heartbeat)) }
                td.number { (seconds((now - shard.heartbeat).to_std().unwrap_or(Duration::ZERO))) }
                td.number { @match shard.lag { Some(lag) => (seconds(lag)), None => "–" } }
            }
        }
    };
    let titles = ["shard", "indexer", "last heartbeat", ">seconds ago", ">lag in seconds"];
    table("Shards of the table's stream", &titles, &rows)
}
