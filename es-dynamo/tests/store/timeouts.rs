//! A server that accepts connections and never responds.

use std::net::TcpListener;
use std::time::Duration;

use es_core::store::{Append, AppendError};
use es_core::{EventStore, StoreError, Version, error_text};
use es_dynamo::DynamoStore;

use super::support::*;

/// Returns a server whose backlog takes connections that are never accepted, and its URL.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("is bound"));
    (listener, url)
}

#[tokio::test]
async fn end_requests_without_a_response() {
    let (_server, url) = silent_server();
    let millis = Duration::from_millis;
    let builder = || DynamoStore::builder().endpoint(&url);
    for (store, says) in [
        (builder().attempt_timeout(millis(50)), "attempt timeout"),
        (builder().operation_timeout(millis(50)), "operation timeout"),
        (builder().attempt_timeout(millis(40)).operation_timeout(millis(50)), "timeout"),
    ] {
        let store = store.build().expect("a valid name");
        let append = Append::after_loaded(stream(), Version::NONE, commit(1));
        // The timeouts take some seconds, with the delays between attempts. A busy machine needs longer.
        let ended = tokio::time::timeout(Duration::from_secs(300), async {
            (store.head(&stream()).await, store.append(&append).await)
        });
        let (read, write) = ended.await.expect("the timeouts are used");
        let read = read.expect_err("no response");
        let AppendError::Store(write) = write.expect_err("no response") else { panic!("no conflict") };
        for error in [read, write] {
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            assert!(error.is_retryable() && error.is_outcome_unknown());
            assert!(error_text(&error).contains(says), "{}", error_text(&error));
        }
    }
}

#[tokio::test]
async fn have_defaults_that_the_builder_changes() {
    let timeouts = |store: &DynamoStore| {
        let config = store.client().config().timeout_config().expect("is set").clone();
        (config.connect_timeout(), config.operation_attempt_timeout(), config.operation_timeout())
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let builder = || DynamoStore::builder().endpoint("http://127.0.0.1:1");
    let store = builder().build().expect("a valid name");
    assert_eq!(timeouts(&store), (seconds(2), seconds(5), seconds(30)));

    // In any order.
    let second = Duration::from_secs(1);
    let store = DynamoStore::builder().connect_timeout(second).endpoint("http://127.0.0.1:1");
    let store =
        store.attempt_timeout(3 * second).operation_timeout(7 * second).build().expect("a valid name");
    assert_eq!(timeouts(&store), (seconds(1), seconds(3), seconds(7)));

    // A client of the application keeps its settings.
    let given = store.client().clone();
    let other = builder().attempt_timeout(9 * second).client(given).build().expect("a valid name");
    assert_eq!(timeouts(&other), (seconds(1), seconds(3), seconds(7)));
    let store = DynamoStore::builder().from_env().await.build().expect("a valid name");
    assert_eq!(timeouts(&store), (seconds(2), seconds(5), seconds(30)));
}

#[cfg(feature = "indexer")]
#[tokio::test]
async fn apply_to_the_streams_client() {
    let store = DynamoStore::builder().endpoint("http://127.0.0.1:1").build().expect("a valid name");
    let config = store.streams_client().expect("there is one").config();
    let timeout = config.timeout_config().expect("is set").operation_attempt_timeout();
    assert_eq!(timeout, Some(Duration::from_secs(5)));
}
