//! The pages of a read: bounded in commits and in bytes.

use es_core::store::Read;
use es_core::{EventStore, StreamId};
use es_postgres::PostgresStore;
use es_postgres::sqlx::{self, AssertSqlSafe};
use es_tests::conformance::new_stream;
use futures_util::TryStreamExt;

/// The size of a page, which its last commit may exceed.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Appends `commits` commits after `after`, each with an event of about `bytes`.
async fn fill(store: &PostgresStore, stream: &StreamId, after: u64, commits: u64, bytes: usize) {
    let sql = format!(
        "INSERT INTO {} (stream, first, last, id, at, bytes, events) \
         SELECT '{stream}', version, version, gen_random_uuid(), now(), {bytes}, \
             ('[{{\"t\":\"Noted\",\"p\":\"' || repeat('x', {bytes}) || '\"}}]')::json \
         FROM generate_series({}, {}) AS version",
        crate::table(store, "commits"),
        after + 1,
        after + commits,
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(store.pool()).await.expect("inserts");
}

/// Reads the stream, and returns the number of commits and the bytes of each page.
async fn pages(store: &PostgresStore, stream: &StreamId) -> Vec<(usize, usize)> {
    let read = store.read(Read::all(stream.clone()));
    let pages = read.map_ok(|page| {
        let events = page.commits.iter().flat_map(|commit| &commit.events);
        (page.commits.len(), events.map(|event| event.payload().len()).sum())
    });
    pages.try_collect().await.expect("reads")
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn pages_of_small_commits_are_bounded_in_commits() {
    let (store, stream) = (crate::store().await, new_stream());
    fill(&store, &stream, 0, 3_000, 100).await;
    let commits: Vec<_> = pages(&store, &stream).await.into_iter().map(|(commits, _)| commits).collect();
    assert_eq!(commits, [500, 2_000, 500]);
}

/// Pages that would exceed their size are cut. The next ones have fewer commits, so that they need not be cut.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn pages_of_large_commits_are_bounded_in_bytes() {
    const BYTES: usize = 300_000;
    let (store, stream) = (crate::store().await, new_stream());
    fill(&store, &stream, 0, 120, BYTES).await;
    let pages = pages(&store, &stream).await;
    assert_eq!(pages.iter().map(|(commits, _)| commits).sum::<usize>(), 120);
    let (first, later) = pages.split_first().expect("has pages");
    assert!(first.1 >= PAGE_BYTES && first.1 < PAGE_BYTES + 2 * BYTES, "{first:?}");
    assert!(later.iter().all(|(_, bytes)| *bytes <= PAGE_BYTES / 2), "{later:?}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn pages_are_bounded_when_commits_grow() {
    const BYTES: usize = 300_000;
    let (store, stream) = (crate::store().await, new_stream());
    fill(&store, &stream, 0, 500, 100).await;
    fill(&store, &stream, 500, 120, BYTES).await;
    let pages = pages(&store, &stream).await;
    assert_eq!(pages.iter().map(|(commits, _)| commits).sum::<usize>(), 620);
    assert!(pages.len() > 3 && pages.iter().all(|(_, bytes)| *bytes < PAGE_BYTES + 2 * BYTES), "{pages:?}");
    // A cut page has closed its connection, and the pool opens another one.
    assert_eq!(self::pages(&store, &stream).await, pages);
}
