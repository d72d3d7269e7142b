//! Reads return everything requested, in order.

use std::sync::Arc;

use es_core::store::{Append, Page, Read};
use es_core::{EventStore, ExpectedVersion, StreamId, Version};
use futures_util::TryStreamExt;

use super::grow;
use crate::conformance::support::{Pattern, new_commit, new_stream, read_all};

/// Reading a stream that does not exist is not an error.
pub async fn a_stream_that_does_not_exist_is_one_empty_page(store: Arc<dyn EventStore>) {
    let pages: Vec<Page> = store.read(Read::all(new_stream())).try_collect().await.expect("reads");
    assert_eq!(pages.len(), 1);
    assert_eq!((&pages[0].commits[..], &pages[0].snapshot), (&[][..], &None));
}

/// Bounds are versions. The commits that contain them are read in full.
pub async fn after_and_until_bound_a_read(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    for count in [1, 3, 2, 1] {
        grow(&*store, &stream, count).await; // ends at 1, 4, 6, 7
    }
    let firsts = async |read: Read| {
        let page = read_all(&*store, read).await;
        page.commits.iter().map(|commit| commit.first.get()).collect::<Vec<_>>()
    };
    let all = || Read::all(stream.clone());
    assert_eq!(firsts(all()).await, [1, 2, 5, 7]);
    assert_eq!(firsts(all().after(Version::new(4))).await, [5, 7]);
    for inside in [2, 3] {
        assert_eq!(firsts(all().after(Version::new(inside))).await, [2, 5, 7]);
        assert_eq!(firsts(all().after(Version::new(inside)).until(Version::new(4))).await, [2]);
    }
    for end in [7, 8, 70, Version::MAX.get() - 1, Version::MAX.get(), u64::MAX] {
        assert_eq!(firsts(all().after(Version::new(end))).await, [0_u64; 0]);
        let until = Version::new(end).plus(50);
        assert_eq!(firsts(all().after(Version::new(end)).until(until)).await, [0_u64; 0]);
        assert_eq!(firsts(all().after(Version::new(4)).until(until)).await, [5, 7]);
    }
    assert_eq!(firsts(all().until(Version::new(4))).await, [1, 2]);
    assert_eq!(firsts(all().until(Version::new(5))).await, [1, 2, 5]);
    assert_eq!(firsts(all().until(Version::new(70))).await, [1, 2, 5, 7]);
    assert_eq!(firsts(all().after(Version::new(1)).until(Version::new(3))).await, [2]);
}

/// The head is the version of the last event of the last commit.
pub async fn head_is_the_last_version(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    assert_eq!(store.head(&stream).await.expect("is known").version, Version::NONE);
    for (count, last) in [(3, 3), (1, 4), (12, 16)] {
        grow(&*store, &stream, count).await;
        assert_eq!(store.head(&stream).await.expect("is known").version, Version::new(last));
    }
}

/// The stream spans more than one page of a Query.
pub async fn a_stream_over_1_megabyte_is_read_whole(store: Arc<dyn EventStore>) {
    large_stream(&*store, 40, 30 * 1024).await;
}

/// The stream spans many pages of a Query.
pub async fn a_stream_over_10_megabytes_is_read_whole(store: Arc<dyn EventStore>) {
    large_stream(&*store, 36, 300 * 1024).await;
}

async fn large_stream(store: &dyn EventStore, count: u64, bytes: usize) {
    let stream = new_stream();
    fill(store, &stream, count, bytes).await;
    let page = read_all(store, Read::all(stream)).await;
    assert_eq!(page.commits.len() as u64, count);
    for (commit, seed) in page.commits.iter().zip(0..) {
        assert!(commit.events == [Pattern { seed, bytes }.event()], "commit {seed} was changed");
    }
}

/// Appends `count` commits of one event of `bytes` each.
pub(super) async fn fill(store: &dyn EventStore, stream: &StreamId, count: u64, bytes: usize) {
    for seed in 0..count {
        let commit = new_commit(vec![Pattern { seed, bytes }.event()]);
        let append = match seed {
            0 => Append::new(stream.clone(), ExpectedVersion::NoStream, commit),
            _ => Append::after_loaded(stream.clone(), Version::new(seed), commit),
        };
        store.append(&append).await.expect("appends");
    }
}
