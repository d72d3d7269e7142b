//! Expectations of changes.

use std::sync::Arc;

use es_core::documents::{DocumentKey, Documents, ExpectedDocument, Revision};
use uuid::Uuid;

use super::{Absent, Any, body, found, is_outdated_by, new_keys, new_set, write};
use ExpectedDocument::At;

/// Expects a put and a delete to be refused, and nothing to change.
async fn refuses(store: &dyn Documents, key: &DocumentKey, expected: ExpectedDocument) {
    let before = found(store, key).await;
    is_outdated_by(store, &new_set().put(key.clone(), expected, "{\"late\":1}"), key).await;
    is_outdated_by(store, &new_set().delete(key.clone(), expected), key).await;
    assert_eq!(found(store, key).await, before, "a refused change changes nothing");
}

/// Whether the document exists or not.
pub async fn any_takes_every_document(store: Arc<dyn Documents>) {
    let [key] = new_keys();
    for text in ["1", "2"] {
        write(&*store, &key, text).await;
        assert_eq!(body(&*store, &key).await.as_deref(), Some(text));
    }
    for _ in 0..2 {
        store.change(&new_set().delete(key.clone(), Any)).await.expect("deletes");
        assert_eq!(found(&*store, &key).await, None);
    }
}

/// Never written or deleted.
pub async fn absent_takes_only_a_document_that_is_not_there(store: Arc<dyn Documents>) {
    let [key] = new_keys();
    for text in ["1", "2"] {
        store.change(&new_set().put(key.clone(), Absent, text)).await.expect("is free");
        refuses(&*store, &key, Absent).await;
        assert_eq!(body(&*store, &key).await.as_deref(), Some(text));
        store.change(&new_set().delete(key.clone(), Any)).await.expect("deletes");
        store.change(&new_set().delete(key.clone(), Absent)).await.expect("is not there");
    }
}

/// Neither an earlier revision nor one that never existed.
pub async fn at_takes_only_that_revision(store: Arc<dyn Documents>) {
    let [key, other] = new_keys();
    let unknown = Revision::new(Uuid::new_v4());
    refuses(&*store, &key, At(unknown)).await;
    let first = write(&*store, &key, "1").await;
    refuses(&*store, &key, At(unknown)).await;
    refuses(&*store, &other, At(first)).await;
    let set = new_set().put(key.clone(), At(first), "2");
    store.change(&set).await.expect("is as expected");
    refuses(&*store, &key, At(first)).await;
    store.change(&new_set().delete(key.clone(), At(set.revision()))).await.expect("is as expected");
    assert_eq!(found(&*store, &key).await, None);
    refuses(&*store, &key, At(set.revision())).await;
}
