//! Expected versions: each variant accepts exactly the versions it describes.

use std::sync::Arc;

use es_core::store::Append;
use es_core::{EventStore, ExpectedVersion, Version};

use super::{grow, refuses};
use crate::conformance::support::{commits, events, new_commit, new_stream};

/// `Any` appends to new and existing streams alike.
pub async fn any_takes_every_stream(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for count in 1..=3_u64 {
        let append = Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(2)));
        let appended = store.append(&append).await.expect("appends");
        assert_eq!(appended.last, count * 2);
    }
    assert_eq!(commits(&*store, &stream).await.len(), 3);
}

/// `NoStream` and `Exact(Version::NONE)` append only the first commit.
pub async fn no_stream_takes_only_a_new_one(store: Arc<dyn EventStore>) {
    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Exact(Version::NONE)] {
        let stream = new_stream();
        let append = Append::new(stream.clone(), expected, new_commit(events(1)));
        assert_eq!(store.append(&append).await.expect("appends").last, 1);
        refuses(&*store, &stream, expected).await;
    }
}

/// `StreamExists` appends only to an existing stream.
pub async fn stream_exists_takes_only_an_existing_one(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let actual = refuses(&*store, &stream, ExpectedVersion::StreamExists).await;
    assert_eq!(actual, Some(Version::NONE));
    grow(&*store, &stream, 3).await;
    let append = Append::new(stream, ExpectedVersion::StreamExists, new_commit(events(1)));
    assert_eq!(store.append(&append).await.expect("appends").last, 4);
}

/// `Exact` appends after the last version, not after an earlier one.
pub async fn exact_takes_only_the_last_version(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 3).await;
    grow(&*store, &stream, 2).await;
    let append = Append::new(stream.clone(), ExpectedVersion::Exact(Version::new(5)), new_commit(events(1)));
    assert_eq!(store.append(&append).await.expect("appends").first, 6);
    let actual = refuses(&*store, &stream, ExpectedVersion::Exact(Version::new(3))).await;
    assert!(actual.is_some_and(|version| version > Version::new(3)), "{actual:?} tells nothing");
}

/// `Exact` with a version beyond the end of the stream would leave a gap.
pub async fn exact_refuses_a_gap(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 3).await;
    let actual = refuses(&*store, &stream, ExpectedVersion::Exact(Version::new(7))).await;
    assert_eq!(actual, Some(Version::new(3)));
}

/// A version within a commit is not the end of the stream.
pub async fn exact_refuses_a_version_inside_a_commit(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 3).await;
    for version in [1, 2] {
        let actual = refuses(&*store, &stream, ExpectedVersion::Exact(Version::new(version))).await;
        assert_eq!(actual, Some(Version::new(3)));
    }
}

/// `Exact` with any version but `Version::NONE` requires the stream to exist.
pub async fn exact_refuses_a_stream_that_does_not_exist(store: Arc<dyn EventStore>) {
    let actual = refuses(&*store, &new_stream(), ExpectedVersion::Exact(Version::FIRST)).await;
    assert_eq!(actual, Some(Version::NONE));
}

/// A refused commit leaves no trace, and can be appended later.
pub async fn a_refused_append_leaves_nothing(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let commit = new_commit(events(2));
    let refused = Append::new(stream.clone(), ExpectedVersion::StreamExists, commit.clone());
    assert!(store.append(&refused).await.expect_err("refused").is_conflict());
    let accepted = Append::new(stream.clone(), ExpectedVersion::NoStream, commit);
    assert!(!store.append(&accepted).await.expect("appends").repeated);
    assert_eq!(commits(&*store, &stream).await.len(), 1);
}
