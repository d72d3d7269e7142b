//! Futures that are dropped at each point at which they wait: the connection that they used is not left in a
//! transaction, in which later writes would be acknowledged and never committed. If the application has left one in such
//! a transaction, writes are not acknowledged on it.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument};
use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::personal::{KeyState, Keyring, Subject};
use es_core::projection::Stage;
use es_core::store::{Append, AppendError, Claim, ClaimChange, Read, WriteSet};
use es_core::{EventStore, ExpectedVersion, Repository, StoreError, Version, error_text};
use es_postgres::keyring::{LocalMasterKey, PostgresKeyring};
use es_postgres::sqlx::postgres::PgPoolOptions;
use es_postgres::sqlx::{self, AssertSqlSafe, Connection};
use es_postgres::{PostgresStore, SqlReadModel};
use es_tests::conformance::{events, new_commit, new_stream};
use es_tests::domain::{Account, Deposit};
use futures_util::TryStreamExt;
use uuid::Uuid;

/// The most times that one operation waits. No operation waits so often.
const MAX_WAITS: u32 = 200;

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

/// Returns the store on a pool with one connection, which exists.
async fn on_one_connection(store: &PostgresStore) -> PostgresStore {
    let options = (*store.pool().connect_options()).clone();
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect_with(options);
    let other = PostgresStore::builder(pool.await.expect("connects")).schema(store.schema());
    other.build().expect("a valid name")
}

/// Drops an operation after each number of polls. Afterwards, its connection, the only one of a pool, has to commit.
async fn drop_everywhere(operation: impl AsyncFn(PostgresStore)) {
    let direct = crate::store().await;
    for polls in 1..MAX_WAITS {
        let store = on_one_connection(&direct).await;
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
    panic!("an operation waits more than {MAX_WAITS} times");
}

/// Returns a store whose pool has one connection, which the application has left in an open transaction, and one on
/// another pool.
async fn left_open(statement: Option<&str>) -> (PostgresStore, PostgresStore) {
    let direct = crate::store().await;
    let store = on_one_connection(&direct).await;
    let mut connection = store.pool().acquire().await.expect("is idle");
    // The response may have arrived before the only poll has ended.
    while poll_times(async { drop(connection.begin().await.expect("begins")) }, 1).await {}
    drop(connection);
    if let Some(statement) = statement {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(store.pool()).await.expect_err("fails");
    }
    (store, direct)
}

/// Repeats a write once: the first attempt reports that its outcome is unknown, or that nothing was written.
async fn repeated(write: impl AsyncFn() -> Result<(), StoreError>, is_aborted: bool) {
    let error = write().await.expect_err("is not committed");
    assert!(error.is_retryable() && error_text(&error).contains("was in an open transaction"), "{error:?}");
    assert_eq!(error.is_outcome_unknown(), !is_aborted, "{error:?}");
    write().await.expect("another connection commits");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn appends_on_a_connection_in_an_open_transaction_are_not_acknowledged() {
    for (statement, groups) in [(None, 1), (None, 3), (Some("SELECT 1 / 0"), 1)] {
        let (store, direct) = left_open(statement).await;
        let append = Append::new(new_stream(), ExpectedVersion::NoStream, new_commit(events(1)));
        let append = append.with_following((1..groups).map(|_| new_commit(events(1))));
        let write = async || match store.append(&append).await {
            Ok(_) => Ok(()),
            Err(AppendError::Store(error)) => Err(error),
            Err(error) => panic!("{error:?}"),
        };
        repeated(write, statement.is_some()).await;
        let found = direct.head(append.stream()).await.expect("is known").version;
        assert_eq!(found, Version::new(groups));
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn documents_on_a_connection_in_an_open_transaction_are_not_acknowledged() {
    let key = DocumentKey::new("dropped", "a");
    for statement in [None, Some("SELECT 1 / 0")] {
        let (store, direct) = left_open(statement).await;
        let set = ChangeSet::new(Uuid::new_v4()).put(key.clone(), ExpectedDocument::Any, "1");
        let write = async || match store.change(&set).await {
            Ok(()) => Ok(()),
            Err(ChangeError::Store(error)) => Err(error),
            Err(error) => panic!("{error:?}"),
        };
        repeated(write, statement.is_some()).await;
        assert!(direct.document(&key).await.expect("reads").is_some());
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn keys_on_a_connection_in_an_open_transaction_are_not_acknowledged() {
    let (store, _) = left_open(None).await;
    let other = crate::pool().await;
    let keyring = |pool| {
        let keyring = PostgresKeyring::builder(pool, LocalMasterKey::new([1; 32])).cache(Duration::ZERO);
        keyring.schema(format!("{}_keys", store.schema())).build().expect("a valid name")
    };
    let (keyring, direct) = (keyring(store.pool().clone()), keyring(other));
    direct.migrate().await.expect("creates the schema");
    let subjects = [Subject::new("17").expect("valid")];
    repeated(async || keyring.keys_or_create(&subjects).await.map(drop), false).await;
    let found = direct.keys(&subjects).await.expect("reads");
    assert!(matches!(found[..], [KeyState::Known(_)]), "{found:?}");
}

/// A command repeats its write on another connection.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn commands_find_another_connection() {
    let (store, direct) = left_open(None).await;
    let id = "a".to_owned();
    let done =
        Repository::<Account>::new(store).execute(&id, Deposit::one(5, "a")).await.expect("is accepted");
    let found = Repository::<Account>::new(direct).load(&id).await.expect("loads");
    assert_eq!((done.version, found.version), (Version::FIRST, Version::FIRST));
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
