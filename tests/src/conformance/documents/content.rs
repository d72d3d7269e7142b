//! The content of documents.

use std::sync::Arc;

use es_core::StoreError;
use es_core::documents::{ChangeError, Document, DocumentChange, DocumentKey, DocumentQuery, Documents};

use super::{Absent, Any, body, found, listing, new_collection, new_set, write};
use crate::conformance::Pattern;

/// With its revision, which each write changes.
pub async fn a_document_reads_back_as_it_was_written(store: Arc<dyn Documents>) {
    let key = DocumentKey::new(new_collection(), "a");
    assert_eq!(found(&*store, &key).await, None);
    let set = new_set().put(key.clone(), Absent, "{\"n\":1}");
    store.change(&set).await.expect("writes");
    assert_eq!(found(&*store, &key).await, Some(Document::new(set.revision(), "{\"n\":1}")));
    let revision = write(&*store, &key, "{\"n\":2}").await;
    assert_ne!(revision, set.revision());
    assert_eq!(found(&*store, &key).await, Some(Document::new(revision, "{\"n\":2}")));
}

/// Including the empty name, and characters that a store may use in its keys.
pub async fn names_of_any_text_are_kept_apart(store: Arc<dyn Documents>) {
    let collection = new_collection();
    let long = "ü".repeat(400);
    let names =
        ["", " ", "#", "##", "D#", "a", "a#", "a#b", "A", "$doc#a", "ü", "🦀", "e\u{301}", "é", "\"\\"];
    let names = names.into_iter().chain(["\u{1}", "\u{7f}", "\u{feff}", "\u{ffff}", "\u{10ffff}", &long]);
    let names: Vec<_> = names.collect();
    for name in &names {
        write(&*store, &DocumentKey::new(&collection, *name), &format!("{name:?}")).await;
    }
    for name in &names {
        let key = DocumentKey::new(&collection, *name);
        assert_eq!(body(&*store, &key).await, Some(format!("{name:?}")));
    }
    // Collections and names that are equal when concatenated differ.
    for (other, name) in [("#a", "b"), ("#a#b", ""), ("", "#a#b"), ("#", "a#b"), (" ", "a")] {
        let key = DocumentKey::new(format!("{collection}{other}"), name);
        assert_eq!(found(&*store, &key).await, None, "{key}");
        write(&*store, &key, &format!("{other:?} {name:?}")).await;
    }
    let mut listed = listing::names(&*store, DocumentQuery::new(&collection)).await;
    listed.retain(|name| name != "#a#b");
    let mut names = names;
    names.sort_unstable();
    assert_eq!(listed, names);
}

/// The store does not interpret bodies, and preserves every byte.
pub async fn bodies_of_any_text_survive(store: Arc<dyn Documents>) {
    let large = Pattern { seed: 7, bytes: 300_000 }.payload();
    let bodies =
        ["", "null", " {} ", "{\"a\":\"\\u0000\"}", "\"ü🦀\u{feff}\"", "1e999", "{\"a\":1,\"a\":2}", &large];
    for text in bodies {
        let key = DocumentKey::new(new_collection(), "a");
        write(&*store, &key, text).await;
        assert!(body(&*store, &key).await.as_deref() == Some(text), "{} bytes are others", text.len());
    }
}

/// Without a request.
pub async fn impossible_names_are_refused(store: Arc<dyn Documents>) {
    let (collection, name) = (DocumentKey::MAX_COLLECTION_BYTES, DocumentKey::MAX_NAME_BYTES);
    let long =
        [DocumentKey::new("c", "a".repeat(name + 1)), DocumentKey::new("c".repeat(collection + 1), "a")];
    // PostgreSQL cannot store U+0000.
    let invalid = [DocumentKey::new("", "a"), DocumentKey::new("c\0", "a"), DocumentKey::new("c", "\0")];
    let impossible = long.into_iter().map(|key| (key, true)).chain(invalid.map(|key| (key, false)));
    for (key, too_large) in impossible {
        let is_that = |error: &StoreError| match error {
            StoreError::TooLarge { .. } => too_large,
            StoreError::Invalid { .. } => !too_large,
            _ => false,
        };
        let error = store.document(&key).await.expect_err("impossible");
        assert!(is_that(&error), "{error:?}");
        let set = new_set().put(key.clone(), Absent, "{}");
        let error = store.change(&set).await.expect_err("impossible");
        assert!(matches!(&error, ChangeError::Store(error) if is_that(error)), "{error:?}");
        let query = DocumentQuery::new(key.collection());
        for query in [query.clone().prefix(key.name()), query.after(Some(key.name().to_owned()))] {
            let error = store.documents(&query).await.expect_err("impossible");
            assert!(is_that(&error), "{error:?}");
        }
    }
    let longest = format!("{:c<collection$}", new_collection());
    let key = DocumentKey::new(longest, "ü".repeat(name / 2));
    write(&*store, &key, "{}").await;
    assert_eq!(body(&*store, &key).await.as_deref(), Some("{}"));
}

/// Without a request.
pub async fn bodies_with_a_null_character_are_refused(store: Arc<dyn Documents>) {
    let key = DocumentKey::new(new_collection(), "a");
    let error = store.change(&new_set().put(key.clone(), Absent, "{\0}")).await.expect_err("impossible");
    assert!(matches!(error, ChangeError::Store(StoreError::Invalid { .. })), "{error:?}");
    assert_eq!(found(&*store, &key).await, None);
}

/// A document of the maximum size is stored. A larger one is rejected without a request.
pub async fn documents_have_a_limit(store: Arc<dyn Documents>) {
    let key = DocumentKey::new(new_collection(), "a");
    let frame = DocumentChange::put(key.clone(), "").bytes();
    let largest = "x".repeat((Document::MAX_BYTES - frame) as usize);
    write(&*store, &key, &largest).await;
    assert!(body(&*store, &key).await.as_deref() == Some(&largest), "another content");
    let error = store.change(&new_set().put(key.clone(), Any, format!("{largest}x"))).await;
    let error = error.expect_err("too large");
    let ChangeError::Store(StoreError::TooLarge { bytes, limit, .. }) = error else { panic!("{error:?}") };
    assert_eq!((bytes, limit), (Document::MAX_BYTES + 1, Document::MAX_BYTES));
    assert!(body(&*store, &key).await.as_deref() == Some(&largest), "another content");
}
