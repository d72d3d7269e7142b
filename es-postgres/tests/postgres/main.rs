//! The tests on a PostgreSQL server, the one that `ES_POSTGRES_URL` names: `just test-postgres` starts one.

mod connections;
mod cuts;
mod dropped;
mod feed_order;
mod horizon;
mod keys;
mod notifications;
mod operation;
mod pages;
mod processes;
mod proxy;
mod restart;
mod sql_projections;
mod statements;

use std::sync::Arc;

use es_postgres::sqlx::PgPool;
use es_postgres::sqlx::postgres::PgPoolOptions;
use es_postgres::{PostgresStore, PostgresStoreBuilder};
use es_tests::conformance::large_events::MAX_BYTES;
use uuid::Uuid;

/// The variable that names the server.
const URL: &str = "ES_POSTGRES_URL";

/// A pool of few connections: tests run at the same time, and each has a pool.
async fn pool() -> PgPool {
    let url = std::env::var(URL).unwrap_or_else(|_| {
        panic!("{URL} is not set: `scripts/postgres COMMAND` starts a server and sets it")
    });
    let options = PgPoolOptions::new().max_connections(8).test_before_acquire(false);
    options.connect(&url).await.unwrap_or_else(|error| panic!("no connection to {url}: {error}"))
}

/// A builder of a store in a new schema.
async fn builder() -> PostgresStoreBuilder {
    PostgresStore::builder(pool().await).schema(format!("test_{}", Uuid::new_v4().simple()))
}

/// Builds a store and creates its schema.
async fn migrated(builder: PostgresStoreBuilder) -> PostgresStore {
    let store = builder.build().expect("a valid name");
    store.migrate().await.expect("creates the schema");
    store
}

/// A store in a new schema.
async fn store() -> PostgresStore {
    migrated(builder().await).await
}

/// The name of the store's table `name`, for statements of the tests.
fn table(store: &PostgresStore, name: &str) -> String {
    format!("{}.{name}", store.schema())
}

es_tests::conformance!([#[ignore = "needs a PostgreSQL server"]] Arc::new(store().await));
es_tests::large_events_conformance!([#[ignore = "needs a PostgreSQL server"]] {
    Arc::new(migrated(builder().await.max_payload_bytes(MAX_BYTES)).await)
});
es_tests::documents_conformance!([#[ignore = "needs a PostgreSQL server"]] Arc::new(store().await));
es_tests::feed_conformance!([#[ignore = "needs a PostgreSQL server"]] Arc::new(store().await));
es_tests::keyring_conformance!([#[ignore = "needs a PostgreSQL server"]] {
    let keyring = keys::keyring(pool().await).await;
    Arc::new(move || keys::reopened(&keyring))
});
