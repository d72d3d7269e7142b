//! A restore of a store in memory to a feed without its splits.

use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::feed::{Feed, FeedRead, Position};
use es_core::store::{Append, NewCommit};
use es_core::{EventStore, ExpectedVersion, MemoryStore};

/// Returns a store with the commits and documents of `store` whose slices are not split: the events of a child follow
/// those of its parent.
pub(crate) async fn without_splits(store: &MemoryStore, collections: &[String]) -> MemoryStore {
    let restored = MemoryStore::new();
    let tree = store.slice_tree().await.expect("slices");
    for slice in tree.iter() {
        let page = store.read_feed(&FeedRead::new(slice, Position::NONE).limit(1_000)).await.expect("reads");
        assert!(page.is_last, "the test has too many events");
        for entry in page.entries {
            let commit = NewCommit::new(entry.commit.id, entry.commit.time, entry.commit.events)
                .with_metadata((*entry.commit.metadata).clone());
            restored.append(&Append::new(entry.stream, ExpectedVersion::Any, commit)).await.expect("appends");
        }
    }
    for collection in collections {
        copy_documents(store, &restored, collection).await;
    }
    restored
}

/// Copies the documents of a collection.
pub(crate) async fn copy_documents(from: &MemoryStore, to: &MemoryStore, collection: &str) {
    let page = from.documents(&DocumentQuery::new(collection)).await.expect("lists");
    assert!(page.next.is_none(), "the test has too many documents");
    for (name, document) in page.documents {
        let id = uuid::Uuid::from_u128(fastrand::u128(..));
        let key = DocumentKey::new(collection, name);
        let set = ChangeSet::new(id).put(key, ExpectedDocument::Absent, document.body);
        to.change(&set).await.expect("stores");
    }
}
