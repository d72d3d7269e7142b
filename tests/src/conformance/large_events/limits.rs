//! The limits of large events and snapshots.

use std::sync::Arc;

use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, AppendError, WriteError, WriteSet};
use es_core::{EventStore, StoreError, Version};

use super::{MAX_BYTES, event};
use crate::conformance::contract::large::refuse_large_metadata;
use crate::conformance::{events, new_commit, new_stream, time};

fn is_too_large(error: &StoreError) {
    let StoreError::TooLarge { bytes, limit, .. } = error else { panic!("{error:?}") };
    assert_eq!((*bytes, *limit), (MAX_BYTES + 1024, MAX_BYTES), "{error}");
}

/// An event that exceeds the limit is refused, and named. So is metadata, which is never stored outside of an item.
pub async fn an_event_over_the_limit_is_refused(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let too_large = new_commit(vec![event(1, 1), event(2, 4 * 1024 + 1)]);
    let append = Append::after_loaded(stream.clone(), Version::NONE, too_large);
    let AppendError::Store(error) = store.append(&append).await.expect_err("too large") else { panic!() };
    is_too_large(&error);
    let expected = format!("the event `Patterned` at version 2 of the stream `{stream}`");
    assert!(error.to_string().contains(&expected), "{error}");
    let error = store.write(&WriteSet::new().append(append)).await.expect_err("too large");
    let WriteError::Store(error) = error else { panic!("{error:?}") };
    is_too_large(&error);
    refuse_large_metadata(&*store, &stream).await;
    assert_eq!(store.head(&stream).await.expect("is known").version, Version::NONE);
}

/// A snapshot that exceeds the limit is refused.
pub async fn a_snapshot_over_the_limit_is_refused(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    store
        .append(&Append::after_loaded(stream.clone(), Version::NONE, new_commit(events(1))))
        .await
        .expect("fits");
    let state = event(1, 4 * 1024 + 1).payload().to_owned();
    let snapshot = Snapshot::new(Version::FIRST, time(0), Fingerprint::new(77), state);
    is_too_large(&store.write_snapshot(&stream, &snapshot, None).await.expect_err("too large"));
}
