//! Change sets of several documents.

use std::sync::Arc;

use es_core::StoreError;
use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument, Revision};
use uuid::Uuid;

use super::{Absent, Any, body, found, is_outdated_by, new_collection, new_keys, new_set, write};
use ExpectedDocument::At;

/// Puts and deletes with different expectations, in different collections.
pub async fn several_documents_are_changed_as_one(store: Arc<dyn Documents>) {
    let [new, replaced, deleted, any] = new_keys();
    let elsewhere = DocumentKey::new(new_collection(), "a");
    let at = write(&*store, &replaced, "1").await;
    let gone = write(&*store, &deleted, "1").await;
    let set = new_set()
        .put(new.clone(), Absent, "2")
        .put(replaced.clone(), At(at), "2")
        .delete(deleted.clone(), At(gone))
        .put(any.clone(), Any, "2")
        .put(elsewhere.clone(), Absent, "2");
    store.change(&set).await.expect("changes");
    for key in [&new, &replaced, &any, &elsewhere] {
        let document = found(&*store, key).await.expect("is there");
        assert_eq!((document.revision, &*document.body), (set.revision(), "2"));
    }
    assert_eq!(found(&*store, &deleted).await, None);
}

/// At any place in the set, with any expectation, for puts and deletes.
pub async fn a_document_that_is_outdated_stops_the_whole_set(store: Arc<dyn Documents>) {
    let never = At(Revision::new(Uuid::new_v4()));
    for late in 0..3 {
        for (expected, deletes) in [(Absent, false), (never, false), (never, true)] {
            let keys: [_; 3] = new_keys();
            for key in &keys {
                write(&*store, key, "before").await;
            }
            let set = keys.iter().enumerate().fold(new_set(), |set, (index, key)| {
                match (index == late, deletes || index == 2) {
                    (true, true) if deletes => set.delete(key.clone(), expected),
                    (true, _) => set.put(key.clone(), expected, "after"),
                    (false, true) => set.delete(key.clone(), Any),
                    (false, false) => set.put(key.clone(), Any, "after"),
                }
            });
            is_outdated_by(&*store, &set, &keys[late]).await;
            for key in &keys {
                assert_eq!(body(&*store, key).await.as_deref(), Some("before"));
            }
        }
    }
}

/// Ten documents of almost 400 KB fit into a transaction; eleven do not.
pub async fn a_set_has_a_limit_in_bytes(store: Arc<dyn Documents>) {
    let collection = new_collection();
    let key = |n| DocumentKey::new(&collection, format!("{n:03}"));
    let body = "x".repeat(399 * 1024);
    let of = |count| (0..count).fold(new_set(), |set, n| set.put(key(n), Absent, body.clone()));
    let error = store.change(&of(11)).await.expect_err("too large");
    let ChangeError::Store(StoreError::TooLarge { bytes, limit, .. }) = error else { panic!("{error:?}") };
    assert!(bytes > limit && limit == ChangeSet::MAX_BYTES, "{bytes} over {limit}");
    assert_eq!(found(&*store, &key(0)).await, None);
    store.change(&of(10)).await.expect("changes");
    assert!(found(&*store, &key(9)).await.is_some());
}

/// The maximum number of changes is accepted, and one more is refused.
pub async fn a_hundred_documents_are_changed_at_once(store: Arc<dyn Documents>) {
    let collection = new_collection();
    let key = |n| DocumentKey::new(&collection, format!("{n:03}"));
    let of = |count| (0..count).fold(new_set(), |set, n| set.put(key(n), Absent, n.to_string()));
    let error = store.change(&of(ChangeSet::MAX_CHANGES + 1)).await.expect_err("too many");
    let told = error.to_string();
    assert!(matches!(error, ChangeError::Store(StoreError::Invalid { .. })), "{error:?}");
    assert!(told.contains("101") && told.contains("100"), "{told}");
    assert_eq!(found(&*store, &key(0)).await, None);
    store.change(&of(ChangeSet::MAX_CHANGES)).await.expect("changes");
    for n in [0, 50, 99] {
        assert_eq!(body(&*store, &key(n)).await, Some(n.to_string()));
    }
}

/// The error says what is wrong, and nothing is changed.
pub async fn unsound_sets_are_refused(store: Arc<dyn Documents>) {
    let [key, other] = new_keys();
    for (set, reason) in [
        (new_set(), "at least one document"),
        (new_set().put(key.clone(), Any, "1").put(key.clone(), Any, "2"), "twice"),
        (new_set().put(key.clone(), Any, "1").put(other, Any, "1").delete(key.clone(), Any), "twice"),
    ] {
        let error = store.change(&set).await.expect_err(reason);
        assert!(matches!(error, ChangeError::Store(StoreError::Invalid { .. })), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(found(&*store, &key).await, None);
}
