//! Commits with large events.

use std::sync::Arc;

use es_core::store::{Append, AppendError, Claim, ClaimChange, Read, WriteError, WriteSet};
use es_core::{EventStore, ExpectedVersion, Version};

use super::event;
use crate::conformance::support::{commits, race};
use crate::conformance::{events, new_commit, new_stream, read_all};

/// Events of every size read back as they were written, alone and with others.
pub async fn read_back_as_they_were_written(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let sizes = [vec![399], vec![401], vec![4_095], vec![1, 500, 1, 600], vec![390, 401, 390, 1]];
    let mut expected = Vec::new();
    for (seed, sizes) in (1..).zip(sizes) {
        let events: Vec<_> = sizes.iter().map(|size| event(seed, *size)).collect();
        let append = Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events.clone()));
        store.append(&append).await.expect("appends");
        expected.push(events);
    }
    let stored: Vec<_> = commits(&*store, &stream).await.into_iter().map(|commit| commit.events).collect();
    assert!(stored == expected, "the events have changed");
    assert_eq!(store.head(&stream).await.expect("is known").version, 11);
    let page = read_all(&*store, Read::all(stream).after(Version::new(2)).until(Version::new(5))).await;
    let found: Vec<_> = page.commits.iter().map(|commit| (commit.first.get(), commit.last().get())).collect();
    assert_eq!(found, [(3, 3), (4, 7)]);
    assert!(page.commits[0].events == expected[2] && page.commits[1].events == expected[3]);
}

/// A commit that does not fit into a transaction is stored as one.
pub async fn may_have_more_than_4_megabytes_together(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let written: Vec<_> = (0..30).map(|seed| event(seed, 300)).collect();
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(written.clone()));
    store.append(&append).await.expect("appends");
    let stored = commits(&*store, &stream).await;
    assert_eq!(stored.len(), 1);
    assert!(stored[0].events == written, "the events have changed");
}

/// A repetition is recognized, at once and later.
pub async fn are_stored_once(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let append = Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(vec![event(1, 1_000)]));
    assert!(!store.append(&append).await.expect("appends").repeated);
    assert!(store.append(&append).await.expect("is found").repeated);
    let more = Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(1)));
    store.append(&more).await.expect("appends");
    assert!(store.append(&append).await.expect("is found").repeated);
    assert_eq!(commits(&*store, &stream).await.len(), 2);
}

/// Equal payloads in different streams are independent.
pub async fn of_equal_content_are_kept_apart(store: Arc<dyn EventStore>) {
    let streams = [new_stream(), new_stream()];
    for stream in &streams {
        let twice = new_commit(vec![event(1, 500), event(1, 500)]);
        let append = Append::new(stream.clone(), ExpectedVersion::NoStream, twice);
        store.append(&append).await.expect("appends");
    }
    for stream in &streams {
        let stored = commits(&*store, stream).await;
        assert!(stored[0].events == [event(1, 500), event(1, 500)]);
    }
}

/// Of many writers, one wins. The commits of a conflict are complete, or missing.
pub async fn collide_with_others_from_the_same_version(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let appends = (0..6_u64).map(|writer| {
        let kilobytes = if writer % 2 == 0 { 500 } else { 1 };
        let commit = new_commit(vec![event(writer, kilobytes)]);
        Append::new(stream.clone(), ExpectedVersion::NoStream, commit)
    });
    let results = race(&*store, &appends.collect::<Vec<_>>()).await;
    let stored = commits(&*store, &stream).await;
    assert_eq!((stored.len(), results.iter().filter(|result| result.is_ok()).count()), (1, 1));
    for error in results.into_iter().filter_map(Result::err) {
        let AppendError::Conflict(conflict) = error else { panic!("{error:?}") };
        assert!(conflict.commits.is_empty() || conflict.commits == stored, "an incomplete winner");
    }
}

/// A set with large events is written as a whole, once.
pub async fn are_written_in_sets(store: Arc<dyn EventStore>) {
    let (first, second) = (new_stream(), new_stream());
    let claim = Claim::new("large", first.id()).expect("a valid claim");
    let append = |stream: &es_core::StreamId, seed| {
        let commit = new_commit(vec![event(seed, 500), event(seed, 1)]);
        Append::new(stream.clone(), ExpectedVersion::NoStream, commit)
    };
    let set = WriteSet::new().append(append(&first, 1)).append(append(&second, 2));
    let set = set.claims([ClaimChange::Take { stream: first.clone(), claim: claim.clone() }]);
    assert!(!store.write(&set).await.expect("writes").repeated);
    assert!(store.write(&set).await.expect("is found").repeated);
    for (stream, seed) in [(&first, 1), (&second, 2)] {
        assert!(commits(&*store, stream).await[0].events == [event(seed, 500), event(seed, 1)]);
    }
    assert_eq!(store.claim_holder(&claim).await.expect("is known").stream, Some(first.clone()));

    let third = new_stream();
    let late = WriteSet::new().append(append(&third, 3)).append(append(&first, 4));
    let error = store.write(&late).await.expect_err("the first stream is not new");
    assert!(matches!(error, WriteError::Conflict(_)), "{error:?}");
    assert!(commits(&*store, &third).await.is_empty(), "a part of a set was written");
}
