//! Repeated change sets, as after a lost response.

use std::sync::Arc;

use es_core::documents::{ChangeSet, DocumentKey, Documents, ExpectedDocument};

use super::{Absent, Any, body, found, is_outdated_by, new_keys, new_set, write};
use ExpectedDocument::At;

/// Applies a set of one document three times.
async fn thrice(store: &dyn Documents, set: &ChangeSet, key: &DocumentKey, is: &str) {
    for round in 0..3 {
        store.change(set).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let document = found(store, key).await.expect("is there");
        assert_eq!((document.revision, &*document.body), (set.revision(), is));
    }
}

/// With any expectation.
pub async fn a_document_is_written_once(store: Arc<dyn Documents>) {
    let [key] = new_keys();
    let set = new_set().put(key.clone(), Absent, "1");
    thrice(&*store, &set, &key, "1").await;
    let set = new_set().put(key.clone(), At(set.revision()), "2");
    thrice(&*store, &set, &key, "2").await;
    let set = new_set().put(key.clone(), Any, "3");
    thrice(&*store, &set, &key, "3").await;
}

/// A repetition does not overwrite a later change. It may report that the set is outdated.
pub async fn what_was_written_since_stays(store: Arc<dyn Documents>) {
    let [key] = new_keys();
    let first = new_set().put(key.clone(), Absent, "1");
    store.change(&first).await.expect("writes");
    let second = new_set().put(key.clone(), At(first.revision()), "2");
    store.change(&second).await.expect("writes");
    write(&*store, &key, "3").await;
    for set in [&first, &second] {
        is_outdated_by(&*store, set, &key).await;
    }
    assert_eq!(body(&*store, &key).await.as_deref(), Some("3"));
}

/// Even if one of its documents was changed since: that change is preserved.
pub async fn a_set_is_carried_out_once(store: Arc<dyn Documents>) {
    let [new, replaced, any, deleted] = new_keys();
    let at = write(&*store, &replaced, "1").await;
    let gone = write(&*store, &deleted, "1").await;
    let set = new_set()
        .put(new.clone(), Absent, "2")
        .put(replaced.clone(), At(at), "2")
        .put(any.clone(), Any, "2")
        .delete(deleted.clone(), At(gone));
    store.change(&set).await.expect("changes");
    let changed_since = [&deleted, &new, &replaced];
    for key in changed_since {
        store.change(&set).await.expect("is known");
        write(&*store, key, "3").await;
    }
    store.change(&set).await.expect("is known by the one that is left");
    for key in changed_since {
        assert_eq!(body(&*store, key).await.as_deref(), Some("3"));
    }
    assert_eq!(body(&*store, &any).await.as_deref(), Some("2"));
}

/// A refused set is not remembered as applied.
pub async fn a_refused_set_may_succeed_later(store: Arc<dyn Documents>) {
    let [taken, other] = new_keys();
    write(&*store, &taken, "1").await;
    let set = new_set().put(taken.clone(), Absent, "2").put(other.clone(), Absent, "2");
    for _ in 0..2 {
        is_outdated_by(&*store, &set, &taken).await;
        assert_eq!(found(&*store, &other).await, None);
    }
    store.change(&new_set().delete(taken.clone(), Any)).await.expect("deletes");
    store.change(&set).await.expect("nothing is in the way any more");
    assert_eq!(body(&*store, &other).await.as_deref(), Some("2"));
}
