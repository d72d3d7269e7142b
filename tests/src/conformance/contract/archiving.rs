//! Erasing a stream for an archive, and restoring it.

use std::sync::Arc;

use es_core::event::EventData;
use es_core::payloads::{PayloadName, PayloadPrefix};
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{
    Append, AppendError, Claim, ClaimChange, Commit, EventRange, Head, IdempotencyKey, NewIdempotencyRecord,
    Read, StreamState, WriteSet, erased_event,
};
use es_core::{Cost, EventStore, ExpectedVersion, Metadata, StoreError, StreamId, Version};
use uuid::Uuid;

use super::grow;
use crate::conformance::support::{Pattern, commits, events, new_commit, new_stream, read_all, time};

/// Returns the state of a stream whose content is in an object with this content.
fn archived(content: &[u8]) -> StreamState {
    let prefix = PayloadPrefix::new("conformance/archives").expect("valid");
    StreamState::archived(PayloadName::of(prefix, content))
}

/// Returns the append that changes the state of a stream.
async fn change(store: &dyn EventStore, stream: &StreamId, state: &StreamState) -> Append {
    let head = store.head(stream).await.expect("is known");
    let append = Append::state_change(stream.clone(), &head, state, new_commit(Vec::new()).id, time(0));
    append.expect("accepts the change")
}

async fn become_state(store: &dyn EventStore, stream: &StreamId, state: &StreamState) {
    store.append(&change(store, stream, state).await).await.expect("changes the state");
}

fn is_conflict(result: Result<impl std::fmt::Debug, AppendError>) {
    let error = result.expect_err("the stream has changed");
    assert!(error.is_conflict(), "{error:?}");
}

/// A stream with everything that can be part of it, which is closed.
struct Closed {
    stream: StreamId,
    claim: Claim,
    key: IdempotencyKey,
    first: Append,
    group: Append,
    commits: Vec<Commit>,
}

impl Closed {
    async fn of(store: &dyn EventStore) -> Self {
        let stream = new_stream();
        let claim = Claim::new("handle", Uuid::new_v4().to_string()).expect("valid");
        let key = IdempotencyKey::new(Some(stream.clone()), "key").expect("valid");
        let range = EventRange::new(stream.clone(), Version::new(1), Version::new(2));
        let record =
            NewIdempotencyRecord::new(key.clone(), Uuid::new_v4(), time(0), time(1_000_000_000), vec![range]);
        let metadata = Metadata::new().with_actor("ann");
        let commit = new_commit(events(2)).with_metadata(metadata.clone());
        let first = Append::new(stream.clone(), ExpectedVersion::NoStream, commit);
        let take = ClaimChange::Take { stream: stream.clone(), claim: claim.clone() };
        let set = WriteSet::new().append(first.clone()).idempotent(record).claims([take]);
        store.write(&set).await.expect("writes");
        let following = [new_commit(events(2)).with_metadata(metadata), new_commit(events(1))];
        let group = Append::after_loaded(stream.clone(), Version::new(2), new_commit(events(1)))
            .with_following(following);
        store.append(&group).await.expect("appends");
        // It does not fit into one item of DynamoDB.
        let large = (0..3).map(|seed| Pattern { seed, bytes: 300_000 }.event()).collect();
        let large = Append::after_loaded(stream.clone(), Version::new(6), new_commit(large));
        store.append(&large).await.expect("appends");
        grow(store, &stream, 2).await;
        become_state(store, &stream, &StreamState::Closed).await;
        let commits = commits(store, &stream).await;
        assert_eq!(commits.len(), 7);
        Self { stream, claim, key, first, group, commits }
    }

    fn last(&self) -> Version {
        self.commits.last().expect("is not empty").last()
    }

    /// Archives the stream. Returns the append that restores it.
    async fn archive(&self, store: &dyn EventStore) -> Append {
        become_state(store, &self.stream, &archived(b"content")).await;
        store.erase(&self.stream).await.expect("erases");
        change(store, &self.stream, &StreamState::Closed).await
    }

    /// Checks that the content of the stream is erased, except for the commits that changed its state.
    async fn is_erased(&self, store: &dyn EventStore) {
        let all = commits(store, &self.stream).await;
        let stored: Vec<_> = all.iter().flat_map(|commit| &commit.events).collect();
        assert!(stored[..11].iter().all(|event| **event == erased_event()), "{stored:?}");
        let (states, content): (Vec<_>, Vec<_>) = all.iter().partition(|commit| commit.state().is_some());
        assert_eq!(states[0], self.commits.last().expect("is not empty"));
        assert!(content.iter().all(|commit| commit.metadata.is_empty()));
        assert_eq!((all[0].id, all[0].time), (self.first.id(), time(0)));
    }

    /// Checks that the stream has its content again.
    async fn is_whole(&self, store: &dyn EventStore) {
        let all = commits(store, &self.stream).await;
        assert_eq!(all[..self.commits.len()], self.commits);
    }
}

/// Nothing of an archived stream can be read, but none of its versions is free. Its claims and idempotency records are
/// kept. Restoring it brings everything back.
pub async fn an_archived_stream_comes_back_as_it_was(store: Arc<dyn EventStore>) {
    let store = &*store;
    let closed = Closed::of(store).await;
    let (stream, last) = (&closed.stream, closed.last());
    let snapshot =
        |version| Snapshot::new(Version::new(version), time(0), Fingerprint::new(7), "1".to_owned());
    store.write_snapshot(stream, &snapshot(11), None).await.expect("writes");
    let from_snapshot = || Read::all(stream.clone()).from_snapshot(Fingerprint::new(7), 20);
    assert_eq!(read_all(store, from_snapshot()).await.snapshot, Some(snapshot(11)));

    let state = archived(b"content");
    become_state(store, stream, &state).await;
    for _ in 0..2 {
        store.erase(stream).await.expect("erases");
        closed.is_erased(store).await;
    }
    let head = store.head(stream).await.expect("is known");
    assert_eq!((head.version, head.state), (last.next(), state));
    assert_eq!(store.claim_holder(&closed.claim).await.expect("is known").stream.as_ref(), Some(stream));
    assert!(store.idempotency_record(&closed.key).await.expect("is known").record.is_some());
    store.write_snapshot(stream, &snapshot(11), Some(Version::new(11))).await.expect("is ignored");
    assert_eq!(read_all(store, from_snapshot()).await.snapshot, None);
    for version in [0, 2, 6, 9, last.get()] {
        let stale = Append::after_loaded(stream.clone(), Version::new(version), new_commit(events(1)));
        is_conflict(store.append(&stale).await);
    }
    let any = Append::new(stream.clone(), ExpectedVersion::Any, new_commit(events(1)));
    let error = store.append(&any).await.expect_err("is archived");
    let AppendError::Store(StoreError::Closed(error)) = error else { panic!("{error:?}") };
    assert!(error.archive().is_some() && error.to_string().contains("restore it"), "{error}");

    let end = change(store, stream, &StreamState::Closed).await;
    for repeated in [false, true] {
        let restored = store.restore(&closed.commits, &end).await.expect("restores");
        assert_eq!((restored.last, restored.repeated), (last.plus(2), repeated));
        closed.is_whole(store).await;
    }
    let head = store.head(stream).await.expect("is known");
    assert_eq!((head.version, head.state), (last.plus(2), StreamState::Closed));
    for append in [&closed.first, &closed.group] {
        assert!(store.append(append).await.expect("was appended").repeated);
    }
    store.write_snapshot(stream, &snapshot(11), None).await.expect("writes");
    assert_eq!(read_all(store, from_snapshot()).await.snapshot, Some(snapshot(11)));
    assert_eq!(store.claim_holder(&closed.claim).await.expect("is known").stream.as_ref(), Some(stream));
}

/// Payloads that a parser of the store might reject, and more commits than fit into one request, are erased and restored
/// as any others.
pub async fn payloads_of_any_content_are_archived(store: Arc<dyn EventStore>) {
    let store = &*store;
    let stream = new_stream();
    let payloads =
        ["\"\\u0000\"", "\"\\ud800\"", "1e999", "{\"t\":\"$closed\"}", "[{\"t\":\"$\"}]", " {} ", "not JSON"];
    for payload in payloads {
        let commit = new_commit(vec![EventData::new("Shaped", 1, payload), EventData::new("Plain", 1, "{}")]);
        let commit = commit.with_metadata(Metadata::new().with_actor("\u{0}"));
        store.append(&Append::new(stream.clone(), ExpectedVersion::Any, commit)).await.expect("appends");
    }
    for group in 0..12 {
        let version = Version::new(14 + group * 1_000);
        let following = (0..99).map(|_| new_commit(events(10)));
        let group = Append::after_loaded(stream.clone(), version, new_commit(events(10)));
        store.append(&group.with_following(following)).await.expect("appends");
    }
    become_state(store, &stream, &StreamState::Closed).await;
    let before = commits(store, &stream).await;
    become_state(store, &stream, &archived(b"content")).await;
    store.erase(&stream).await.expect("erases");
    let erased = commits(store, &stream).await;
    let (states, content): (Vec<_>, Vec<_>) = erased.iter().partition(|commit| commit.state().is_some());
    assert_eq!(Some(states[0]), before.last());
    let content: Vec<_> = content.iter().flat_map(|commit| &commit.events).collect();
    assert!(
        content.len() == 12_014 && content.iter().all(|event| **event == erased_event()),
        "content is left"
    );
    let end = change(store, &stream, &StreamState::Closed).await;
    store.restore(&before, &end).await.expect("restores");
    assert!(commits(store, &stream).await[..before.len()] == before, "a commit was changed");
}

/// A stream can be archived and restored repeatedly, and be deleted from every state.
pub async fn an_archived_stream_can_be_deleted(store: Arc<dyn EventStore>) {
    let store = &*store;
    for rounds in 0..3 {
        let closed = Closed::of(store).await;
        let stream = &closed.stream;
        for _ in 0..rounds {
            let before = commits(store, stream).await;
            let end = closed.archive(store).await;
            closed.is_erased(store).await;
            store.restore(&before, &end).await.expect("restores");
            assert_eq!(commits(store, stream).await[..before.len()], before);
        }
        if rounds < 2 {
            closed.archive(store).await;
        }
        become_state(store, stream, &StreamState::Deleted).await;
        for _ in 0..2 {
            store.erase(stream).await.expect("erases");
        }
        let stored = commits(store, stream).await;
        let (last, others) = stored.split_last().expect("is not empty");
        assert_eq!(last.state(), Some(StreamState::Deleted));
        assert!(others.iter().flat_map(|commit| &commit.events).all(|event| *event == erased_event()));
        assert_eq!(store.claim_holder(&closed.claim).await.expect("is known").stream, None);
        assert_eq!(store.idempotency_record(&closed.key).await.expect("is known").record, None);
    }
}

/// Only a closed stream is archived, and only an archived one is restored.
pub async fn states_follow_each_other(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    grow(&*store, &stream, 2).await;
    let id = new_commit(Vec::new()).id;
    let closed = Head::new(Version::new(2), Cost::ZERO).with_state(StreamState::Closed);
    let archive = Append::state_change(stream.clone(), &closed, &archived(b"content"), id, time(0));
    let archive = archive.expect("would be accepted").commits()[0].clone();
    for expected in [ExpectedVersion::Any, ExpectedVersion::Exact(Version::new(2))] {
        let append = Append::new(stream.clone(), expected, archive.clone());
        let error = store.append(&append).await.expect_err("is open");
        assert!(matches!(error, AppendError::Store(StoreError::Invalid { .. })), "{error:?}");
    }
    become_state(&*store, &stream, &StreamState::Closed).await;
    let head = store.head(&stream).await.expect("is known");
    let again = Append::state_change(stream.clone(), &head, &StreamState::Closed, id, time(0));
    assert!(matches!(again, Err(StoreError::Closed(_))), "{again:?}");
    become_state(&*store, &stream, &archived(b"content")).await;
    become_state(&*store, &stream, &StreamState::Closed).await;
    become_state(&*store, &stream, &archived(b"other")).await;
    become_state(&*store, &stream, &StreamState::Deleted).await;
    let head = store.head(&stream).await.expect("is known");
    let restored = Append::state_change(stream.clone(), &head, &StreamState::Closed, id, time(0));
    assert!(matches!(restored, Err(StoreError::Closed(_))), "{restored:?}");
}

/// A request that erases a stream for an archive has no effect after the stream was restored.
pub async fn a_delayed_erasure_has_no_effect(store: Arc<dyn EventStore>) {
    let store = &*store;
    let closed = Closed::of(store).await;
    let end = closed.archive(store).await;
    store.restore(&closed.commits, &end).await.expect("restores");
    let error = store.erase(&closed.stream).await.expect_err("is closed");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    closed.is_whole(store).await;
}

/// A request that restores a stream brings nothing back after the stream was archived again or deleted.
pub async fn a_delayed_restore_brings_nothing_back(store: Arc<dyn EventStore>) {
    let store = &*store;
    for next in [archived(b"other"), StreamState::Deleted] {
        let closed = Closed::of(store).await;
        let end = closed.archive(store).await;
        if next != StreamState::Deleted {
            store.restore(&closed.commits, &end).await.expect("restores");
        }
        let head = Head::new(closed.last().next(), Cost::ZERO).with_state(archived(b"content"));
        let (stream, id) = (closed.stream.clone(), new_commit(Vec::new()).id);
        let delayed = Append::state_change(stream, &head, &StreamState::Closed, id, time(0));
        let delayed = delayed.expect("is accepted");
        become_state(store, &closed.stream, &next).await;
        store.erase(&closed.stream).await.expect("erases");
        let before = commits(store, &closed.stream).await;
        is_conflict(store.restore(&closed.commits, &delayed).await);
        assert_eq!(commits(store, &closed.stream).await, before);
    }
}

/// Of several requests that restore a stream, one appends its commit. Commits of another stream are not accepted.
pub async fn restoring_is_checked(store: Arc<dyn EventStore>) {
    let store = &*store;
    let (closed, other) = (Closed::of(store).await, Closed::of(store).await);
    closed.archive(store).await;
    let ends = [
        change(store, &closed.stream, &StreamState::Closed).await,
        change(store, &closed.stream, &StreamState::Closed).await,
    ];
    let error = store.restore(&other.commits, &ends[0]).await.expect_err("these are other commits");
    assert!(matches!(error, AppendError::Store(StoreError::Corrupt { .. })), "{error:?}");
    let (one, two) =
        tokio::join!(store.restore(&closed.commits, &ends[0]), store.restore(&closed.commits, &ends[1]));
    assert_eq!([&one, &two].iter().filter(|result| result.is_ok()).count(), 1, "{one:?} {two:?}");
    closed.is_whole(store).await;
}
