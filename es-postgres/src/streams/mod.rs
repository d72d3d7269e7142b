//! Streams: commits, snapshots, claims, and idempotency records.

mod append;
mod claims;
mod lifecycle;
mod read;
mod row;
mod snapshot;
mod write;

pub(crate) use row::{column, commit_from, version};

use es_core::store::Commit;
use es_core::{StreamId, Version};
use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::database::{Database, Failed};

/// The commits of each append that begins at one of the places, in order.
const APPENDS_AT: &str = "SELECT first, last, id, at, metadata, events, place \
     FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS wanted (wanted_stream, wanted_first, place), \
     LATERAL (SELECT coalesce(until, last) AS end FROM {schema}.commits \
         WHERE stream = wanted_stream AND first = wanted_first) AS append, \
     LATERAL (SELECT * FROM {schema}.commits \
         WHERE stream = wanted_stream AND first BETWEEN wanted_first AND append.end ORDER BY first) AS found \
     ORDER BY place, first";

/// Returns the commits of each append whose first event is at one of the places.
async fn appends_at(
    database: &Database,
    connection: &mut PgConnection,
    places: &[(&StreamId, Version)],
) -> Result<Vec<Vec<Commit>>, Failed> {
    let streams: Vec<&str> = places.iter().map(|(stream, _)| stream.as_str()).collect();
    let firsts: Vec<i64> = places.iter().map(|(_, first)| row::number(*first)).collect();
    let query = sqlx::query(database.sql(APPENDS_AT)).bind(streams).bind(firsts);
    let rows = database.within(query.fetch_all(connection)).await?;
    let mut appends: Vec<Vec<Commit>> = places.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let place = row.try_get::<i64, _>("place")? as usize - 1;
        appends[place].push(commit_from(places[place].0, &row)?);
    }
    Ok(appends)
}

/// Returns the version of the last event.
fn last_of(commits: &[Commit]) -> Option<Version> {
    commits.last().map(Commit::last)
}
