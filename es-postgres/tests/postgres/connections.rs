//! Connections that are not available, and why.

use std::net::TcpListener;
use std::time::Duration;

use es_core::store::{Append, AppendError};
use es_core::{EventStore, ExpectedVersion, StoreError, error_text};
use es_postgres::PostgresStore;
use es_postgres::keyring::{LocalMasterKey, PostgresKeyring};
use es_postgres::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use es_tests::conformance::{events, new_commit, new_stream};

const SHORT: Duration = Duration::from_millis(200);

async fn append(store: &PostgresStore) -> Result<(), StoreError> {
    let append = Append::new(new_stream(), ExpectedVersion::Any, new_commit(events(1)));
    match store.append(&append).await {
        Ok(_) => Ok(()),
        Err(AppendError::Store(error)) => Err(error),
        Err(error) => panic!("{error:?}"),
    }
}

/// The pool retries a refused connection until its time is up, as if all connections were in use.
#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("an address").port();
    // A server that never responds, and then none.
    for listener in [Some(listener), None] {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
        // The time of the pool or that of the store is up first.
        for (of_pool, of_store) in [(SHORT, SHORT * 10), (SHORT * 10, SHORT)] {
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(of_pool);
            let pool = pool.connect_lazy_with(options.clone());
            let store = PostgresStore::builder(pool.clone()).timeout(of_store).build().expect("valid");
            let keyring = PostgresKeyring::builder(pool, LocalMasterKey::new([1; 32])).timeout(of_store);
            let keyring = keyring.build().expect("valid");
            for error in [append(&store).await, store.verify().await, keyring.verify().await] {
                let error = error.expect_err("there is no server");
                let text = error_text(&error);
                assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
                assert!(error.is_retryable() && !error.is_outcome_unknown(), "{text}");
                assert!(
                    text.contains(&format!("no connection to PostgreSQL at `127.0.0.1:{port}`")),
                    "{text}"
                );
                let cause = if listener.is_some() { "no response within" } else { "refused" };
                assert!(text.contains(cause), "{text}");
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_pool_without_a_free_connection_is_throttled() {
    let options = crate::pool().await.connect_options().as_ref().clone();
    for (of_pool, of_store) in [(SHORT, SHORT * 10), (SHORT * 10, SHORT)] {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(of_pool);
        let pool = pool.connect_lazy_with(options.clone());
        let store = PostgresStore::builder(pool.clone()).timeout(of_store).build().expect("valid");
        let connection = pool.acquire().await.expect("connects");
        let error = append(&store).await.expect_err("there is no other connection");
        let text = error_text(&error);
        assert!(matches!(error, StoreError::Throttled(_)), "{error:?}");
        assert!(text.contains("it has at most 1. Enlarge the pool"), "{text}");
        drop(connection);
    }
}

/// What an operator has to change is not retried.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn wrong_settings_are_reported_as_such() {
    let (pool, schema) = (crate::pool().await, crate::store().await.schema().to_owned());
    let options = || pool.connect_options().as_ref().clone();
    for (options, expected) in [
        (options().database("missing"), "check the database, the user, the password"),
        (options().username("missing"), "check the database, the user, the password"),
        (options().options([("default_transaction_read_only", "on")]), "the server is read-only"),
    ] {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let store = PostgresStore::builder(pool).schema(&schema).build().expect("valid");
        let error = append(&store).await.expect_err("is rejected");
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
