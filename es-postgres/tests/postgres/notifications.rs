//! Notifications: readers of the feed learn of the commits of other processes without polling.

use std::time::{Duration, Instant};

use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::store::{Append, EventStore};
use es_core::{StreamId, Version};
use es_postgres::PostgresStore;
use es_postgres::sqlx::postgres::{PgListener, PgPoolOptions};
use es_postgres::sqlx::{self, Connection, PgConnection};
use es_tests::conformance::{events, new_commit};
use tokio::time::timeout;
use uuid::Uuid;

/// How long to wait for what must happen.
const LIMIT: Duration = Duration::from_secs(20);

/// The store of another process on the same schema, and the name of its application.
async fn other_process(store: &PostgresStore) -> (PostgresStore, String) {
    let application = format!("other_{}", Uuid::new_v4().simple());
    let options = store.pool().connect_options().as_ref().clone().application_name(&application);
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("connects");
    (PostgresStore::builder(pool).schema(store.schema()).build().expect("a valid name"), application)
}

async fn append(store: &PostgresStore, stream: &str) {
    let stream = StreamId::new("notified", stream).expect("valid");
    let append = Append::after_loaded(stream, Version::NONE, new_commit(events(1)));
    store.append(&append).await.expect("appends");
}

async fn end(store: &PostgresStore) -> Position {
    store.read_feed(&FeedRead::new(Slice::new(0), Position::NONE)).await.expect("reads").through
}

/// Returns the session in which the application listens, if there is one.
async fn listening(store: &PostgresStore, application: &str) -> Option<i32> {
    let query = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'";
    sqlx::query_scalar(query).bind(application).fetch_optional(store.pool()).await.expect("is known")
}

/// Waits until the application listens in a session, or in none.
async fn until_listening(store: &PostgresStore, application: &str, wanted: impl Fn(Option<i32>) -> bool) {
    let start = Instant::now();
    while !wanted(listening(store, application).await) {
        assert!(start.elapsed() < LIMIT, "it does not listen as it should");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads the feed until it has `position`, and waits for its growth in between.
async fn read_until(store: &PostgresStore, position: Position) {
    timeout(LIMIT, async {
        loop {
            let growth = store.growth();
            if end(store).await >= position {
                return;
            }
            growth.await;
        }
    })
    .await
    .expect("wakes the reader");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn readers_learn_of_commits_of_other_processes() {
    let store = crate::store().await;
    let (reader, application) = other_process(&store).await;
    for count in 1..=5 {
        let reading = read_until(&reader, Position::new(count));
        let writing = async {
            until_listening(&store, &application, |session| session.is_some()).await;
            append(&store, &count.to_string()).await;
        };
        tokio::join!(reading, writing);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_lost_connection_is_opened_again_and_closed_with_its_store_or_pool() {
    let store = crate::store().await;
    let (reader, application) = other_process(&store).await;
    drop(reader.growth());
    until_listening(&store, &application, |session| session.is_some()).await;

    let lost = listening(&store, &application).await.expect("listens");
    let killed = sqlx::query("SELECT pg_terminate_backend($1)").bind(lost).execute(store.pool()).await;
    killed.expect("kills the session");
    until_listening(&store, &application, |session| session.is_some_and(|session| session != lost)).await;
    tokio::join!(read_until(&reader, Position::new(1)), append(&store, "after"));

    drop(reader);
    until_listening(&store, &application, |session| session.is_none()).await;

    let (reader, application) = other_process(&store).await;
    drop(reader.growth());
    until_listening(&store, &application, |session| session.is_some()).await;
    reader.pool().close().await;
    until_listening(&store, &application, |session| session.is_none()).await;
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn many_appends_share_a_notification() {
    let store = crate::store().await;
    let mut listener = PgListener::connect_with(store.pool()).await.expect("connects");
    listener.listen("es_feed").await.expect("listens");
    let start = Instant::now();
    for number in 0..100 {
        append(&store, &number.to_string()).await;
    }
    append(&store, "last").await;
    let mut received = 0;
    while let Ok(notification) = timeout(Duration::from_millis(500), listener.recv()).await {
        let notification = notification.expect("receives");
        let own = notification.payload().split(' ').next() == Some(store.schema());
        received += u128::from(own);
    }
    let most = start.elapsed().as_millis() / 20 + 1;
    assert!((1..=most).contains(&received), "{received} of at most {most}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn without_notifications_nothing_is_sent_and_nothing_listens() {
    let store = crate::store().await;
    let (other, application) = other_process(&store).await;
    let silent = PostgresStore::builder(other.pool().clone()).schema(store.schema()).notifications(false);
    let silent = silent.build().expect("a valid name");
    let mut listener = PgListener::connect_with(store.pool()).await.expect("connects");
    listener.listen("es_feed").await.expect("listens");
    drop(silent.growth());
    append(&silent, "silent").await;
    // The notification of the other store comes after any of the first one.
    tokio::time::sleep(Duration::from_millis(100)).await;
    append(&store, "loud").await;
    let sender = async |listener: &mut PgListener| loop {
        let notification = timeout(LIMIT, listener.recv()).await.expect("in time").expect("receives");
        if let Some(sender) = notification.payload().strip_prefix(store.schema()) {
            return sender.to_owned();
        }
    };
    let first = sender(&mut listener).await;
    append(&store, "again").await;
    assert_eq!(sender(&mut listener).await, first, "all of the same store");
    assert_eq!(listening(&store, &application).await, None);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn readers_are_woken_when_a_transaction_no_longer_holds_back_the_feed() {
    let store = crate::store().await;
    let store = PostgresStore::builder(store.pool().clone()).schema(store.schema()).notifications(false);
    let store = store.build().expect("a valid name");
    let mut holder = PgConnection::connect_with(&store.pool().connect_options()).await.expect("connects");
    sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()").execute(&mut holder).await.expect("begins");
    append(&store, "held").await;
    assert_eq!(end(&store).await, Position::NONE, "an older transaction may still insert");
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        sqlx::raw_sql("COMMIT").execute(&mut holder).await.expect("commits");
    };
    tokio::join!(read_until(&store, Position::new(1)), releasing);
}
