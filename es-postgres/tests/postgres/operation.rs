//! Migrations, restored databases, and errors of the server.

use std::time::Duration;

use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::store::{Append, AppendError};
use es_core::{EventStore, ExpectedVersion, StoreError, StreamId, Version};
use es_postgres::PostgresStore;
use es_postgres::sqlx::postgres::PgPoolOptions;
use es_postgres::sqlx::{self, AssertSqlSafe};
use es_tests::conformance::{events, new_commit, new_stream};
use futures_util::future::join_all;

async fn run(store: &PostgresStore, sql: &str) {
    let sql = sql.replace("{schema}", store.schema());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(store.pool()).await.expect("runs");
}

async fn grow(store: &PostgresStore, stream: &StreamId) -> Result<(), AppendError> {
    store.append(&Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(1)))).await.map(drop)
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn migrations_can_run_at_the_same_time_and_again() {
    let store = PostgresStore::builder(crate::pool().await)
        .schema(format!("test_{}", uuid::Uuid::new_v4().simple()))
        .build()
        .expect("a valid name");
    let error = store.verify().await.expect_err("is empty");
    assert!(matches!(error, StoreError::Setup { .. }) && error.to_string().contains("migrate"), "{error}");
    let error = grow(&store, &new_stream()).await.expect_err("is empty");
    assert!(matches!(&error, AppendError::Store(StoreError::Setup { .. })), "{error:?}");
    for result in join_all((0..4).map(|_| store.migrate())).await {
        result.expect("migrates");
    }
    store.verify().await.expect("is as it was made");
    grow(&store, &new_stream()).await.expect("appends");
    run(&store, "UPDATE {schema}.store SET format = 99").await;
    for error in [store.verify().await.expect_err("newer"), store.migrate().await.expect_err("newer")] {
        assert!(error.to_string().contains("use a newer version"), "{error}");
    }
}

/// An administrator may create the schema for a user that may not create others.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_owner_of_a_schema_needs_no_privilege_on_the_database() {
    let admin = crate::pool().await;
    let owner = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let sql = format!("CREATE ROLE {owner} LOGIN; CREATE SCHEMA {owner} AUTHORIZATION {owner}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&admin).await.expect("creates the user");
    let options = admin.connect_options().as_ref().clone().username(&owner);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("connects");
    let store = PostgresStore::builder(pool.clone()).schema(&owner).build().expect("a valid name");
    for _ in 0..2 {
        store.migrate().await.expect("migrates");
    }
    store.verify().await.expect("is as it was made");
    grow(&store, &new_stream()).await.expect("appends");
    let other = PostgresStore::builder(pool).schema(format!("{owner}_2")).build().expect("a valid name");
    let error = other.migrate().await.expect_err("may not create a schema");
    let text = es_core::error_text(&error);
    assert!(matches!(error, StoreError::Setup { .. }) && text.contains("permission denied"), "{text}");
    let sql = format!("DROP OWNED BY {owner}; DROP ROLE {owner}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&admin).await.expect("removes the user");
}

/// Transaction ids of the new cluster are lower than those that are stored.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_feed_continues_in_a_restored_database() {
    let (store, stream) = (crate::store().await, new_stream());
    for _ in 0..3 {
        grow(&store, &stream).await.expect("appends");
    }
    run(
        &store,
        "UPDATE {schema}.commits SET tx = tx + 1000000000000; \
                 INSERT INTO {schema}.feed_marks SELECT 1, tx, n FROM {schema}.commits WHERE first = 1",
    )
    .await;
    let read = FeedRead::new(Slice::new(0), Position::NONE);
    let error = store.read_feed(&read).await.expect_err("was restored");
    assert!(matches!(error, StoreError::Setup { .. }) && error.to_string().contains("migrate"), "{error}");
    store.migrate().await.expect("migrates");
    for _ in 0..2 {
        grow(&store, &stream).await.expect("appends");
    }
    for _ in 0..2_000 {
        let page = store.read_feed(&read).await.expect("reads");
        if page.through == Position::new(5) {
            let versions: Vec<_> = page.entries.iter().map(|entry| entry.commit.first.get()).collect();
            assert_eq!(versions, [1, 2, 3, 4, 5]);
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the commits are not delivered");
}

/// A statement that the server cancels has written nothing, and one without a response may have.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn outcomes_are_unknown_only_without_a_response() {
    let (store, stream) = (crate::store().await, new_stream());
    let mut lock = store.pool().begin().await.expect("begins");
    let sql = format!("LOCK TABLE {}", crate::table(&store, "commits"));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *lock).await.expect("locks");

    let hurried = PostgresStore::builder(store.pool().clone()).schema(store.schema());
    let hurried = hurried.timeout(Duration::from_millis(100)).build().expect("a valid name");
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(events(1)));
    let error = hurried.append(&append).await.expect_err("waits for the lock");
    let AppendError::Store(error) = error else { panic!("{error:?}") };
    assert!(error.is_outcome_unknown() && error.is_retryable(), "{error:?}");
    let error = hurried.head(&stream).await.expect_err("waits for the lock");
    assert!(!error.is_outcome_unknown() && error.is_retryable(), "{error:?}");

    let waiting = tokio::spawn({
        let (store, append) = (store.clone(), append.clone());
        async move { store.append(&append).await }
    });
    let cancel = format!(
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
         WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO %{}%'",
        store.schema()
    );
    // The statement of the first attempt still waits as well.
    loop {
        let count = sqlx::query_scalar(AssertSqlSafe(cancel.clone())).fetch_one(store.pool());
        let left: i64 = count.await.expect("cancels");
        if left == 0 && waiting.is_finished() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let error = waiting.await.expect("no panic").expect_err("is cancelled");
    assert!(matches!(error, AppendError::Store(StoreError::Throttled(_))), "{error:?}");
    lock.rollback().await.expect("unlocks");
    assert!(!store.append(&append).await.expect("appends").repeated);
    assert!(store.append(&append).await.expect("is found").repeated);
}

/// All commits of one append, or none.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn several_commits_are_appended_as_one() {
    let (store, stream) = (crate::store().await, new_stream());
    let group = |version| {
        let append = Append::after_loaded(stream.clone(), Version::new(version), new_commit(events(2)));
        append.with_following([new_commit(events(1)), new_commit(events(3))])
    };
    let first = group(0);
    let appended = store.append(&first).await.expect("appends");
    assert_eq!((appended.first, appended.last, appended.repeated), (Version::new(1), Version::new(6), false));
    assert!(store.append(&first).await.expect("is found").repeated);
    // A commit at the version of a group's second commit, and a group at that of its first.
    let Err(AppendError::Conflict(conflict)) = store.append(&group(0)).await else { panic!("is late") };
    let ids: Vec<_> = conflict.commits.iter().map(|commit| commit.id).collect();
    assert_eq!(ids, first.commits().iter().map(|commit| commit.id).collect::<Vec<_>>());
    assert_eq!(conflict.actual, Some(Version::new(6)));
    assert!(store.append(&group(2)).await.expect_err("is inside").is_conflict());

    let races = join_all((0..8).map(|_| {
        let append = group(6);
        let store = store.clone();
        async move { store.append(&append).await }
    }));
    assert_eq!(races.await.iter().filter(|result| result.is_ok()).count(), 1);
    let commits = es_tests::conformance::read_all(&store, es_core::store::Read::all(stream)).await.commits;
    assert_eq!(commits.iter().map(|commit| commit.events.len()).collect::<Vec<_>>(), [2, 1, 3, 2, 1, 3]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_only_slice_cannot_be_split() {
    let store = crate::store().await;
    let before = store.slice_tree().await.expect("is known");
    for (slice, expected) in [(0, "has one slice"), (1, "no slice 1")] {
        let error = store.split(Slice::new(slice)).await.expect_err("is refused");
        assert!(
            matches!(error, StoreError::Invalid { .. }) && error.to_string().contains(expected),
            "{error}"
        );
    }
    assert_eq!(store.slice_tree().await.expect("is known"), before);
}

/// The deletion of a stream finds its claims and records by an index, however many there are.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_keys_of_a_stream_are_found_by_an_index() {
    let store = crate::store().await;
    run(
        &store,
        "INSERT INTO {schema}.claims SELECT 'email', n::text, 'customer#' || n FROM generate_series(1, 10000) AS n; \
         INSERT INTO {schema}.idempotency (stream, key, id, expires, ranges) \
         SELECT 'customer#' || n, 'key', gen_random_uuid(), now(), '[]' FROM generate_series(1, 10000) AS n; \
         ANALYZE {schema}.claims; ANALYZE {schema}.idempotency",
    )
    .await;
    for table in ["claims", "idempotency"] {
        let sql = format!("EXPLAIN DELETE FROM {} WHERE stream = 'customer#1'", crate::table(&store, table));
        let plan: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(store.pool()).await.expect("explains");
        let plan = plan.join("\n");
        assert!(plan.contains("Index Scan") && !plan.contains("Seq Scan"), "{plan}");
    }
}
