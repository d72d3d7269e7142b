//! Futures that are dropped at each point at which they wait: the connection that they used is not left in a
//! transaction, in which later writes would be acknowledged and never committed.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use es_core::documents::{ChangeSet, DocumentKey, Documents, ExpectedDocument};
use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::projection::Stage;
use es_core::store::{Append, Claim, ClaimChange, Read, WriteSet};
use es_core::{EventStore, Version};
use es_postgres::sqlx;
use es_postgres::sqlx::postgres::PgPoolOptions;
use es_postgres::{PostgresStore, SqlReadModel};
use es_tests::conformance::{events, new_commit, new_stream};
use futures_util::TryStreamExt;
use uuid::Uuid;

/// The most times that one operation waits. No operation waits so often.
const MOST_WAITS: u32 = 200;

/// Polls a future until it is ready, at most `polls` times, and drops it. Returns whether it was ready.
async fn poll_times(future: impl Future<Output = ()>, mut polls: u32) -> bool {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if polls <= 1 => Poll::Ready(false),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Drops an operation after each number of polls. Afterwards, its connection, the only one of a pool, has to commit.
async fn drop_everywhere(operation: impl AsyncFn(PostgresStore)) {
    let direct = crate::store().await;
    for polls in 1..MOST_WAITS {
        let options = (*direct.pool().connect_options()).clone();
        let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect_with(options);
        let store = PostgresStore::builder(pool.await.expect("connects")).schema(direct.schema());
        let store = store.build().expect("a valid name");
        // The connection exists, so that the first poll sends a statement.
        store.head(&new_stream()).await.expect("is known");
        let is_done = poll_times(operation(store.clone()), polls).await;

        let append = Append::after_loaded(new_stream(), Version::NONE, new_commit(events(1)));
        store.append(&append).await.expect("appends");
        let found = direct.head(append.stream()).await.expect("is known").version;
        assert_eq!(found, Version::FIRST, "dropped at poll {polls}: an acknowledged write is not committed");
        if is_done {
            assert!(polls > 1, "the operation has not waited");
            return;
        }
    }
    panic!("an operation waits more than {MOST_WAITS} times");
}

fn tables(store: &PostgresStore) -> SqlReadModel {
    SqlReadModel::named(store, "dropped", "CREATE TABLE counts (n bigint)")
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn an_append() {
    drop_everywhere(async |store| {
        let append = Append::after_loaded(new_stream(), Version::NONE, new_commit(events(2)));
        store.append(&append).await.expect("appends");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_write_of_a_set() {
    drop_everywhere(async |store| {
        let stream = new_stream();
        let claim = Claim::new("dropped", stream.as_str()).expect("valid");
        let append = Append::after_loaded(stream.clone(), Version::NONE, new_commit(events(2)));
        let set = WriteSet::new().append(append).claims([ClaimChange::Take { claim, stream }]);
        store.write(&set).await.expect("writes");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_change_of_documents() {
    drop_everywhere(async |store| {
        let key = |name: &str| DocumentKey::new("dropped", name);
        let set = ChangeSet::new(Uuid::new_v4()).put(key("a"), ExpectedDocument::Any, "1").put(
            key("b"),
            ExpectedDocument::Any,
            "2",
        );
        store.change(&set).await.expect("changes");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn reads_of_a_stream_and_of_the_feed() {
    drop_everywhere(async |store| {
        let pages: Vec<_> = store.read(Read::all(new_stream())).try_collect().await.expect("reads");
        assert!(pages.iter().all(|page| page.commits.is_empty()));
        store.read_feed(&FeedRead::new(Slice::new(0), Position::NONE)).await.expect("reads");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_read_of_tables_of_a_projection() {
    drop_everywhere(async |store| {
        let mut read = tables(&store).read().await.expect("reads");
        sqlx::query("SELECT n FROM counts").fetch_all(&mut *read).await.expect("reads");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_transaction_of_a_projection() {
    drop_everywhere(async |store| {
        let mut tables = tables(&store);
        tables.bind("dropped", 1);
        let connection = tables.transaction().await.expect("begins");
        sqlx::query("INSERT INTO counts VALUES (1)").execute(connection).await.expect("inserts");
    })
    .await;
}
