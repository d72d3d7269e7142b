//! Queries of documents.

use std::sync::Arc;

use es_core::documents::{DocumentKey, DocumentPage, DocumentQuery, Documents, ExpectedDocument};

use super::{found, new_collection, new_set, write};
use crate::conformance::Pattern;

/// In the order of their UTF-8 bytes, not of UTF-16 code units.
const NAMES: [&str; 14] =
    ["", "#", "A", "Z", "a", "a#", "a#1", "a#10", "a#2", "aa", "b", "ü", "\u{ffff}", "\u{1f980}"];

/// Creates a collection with a document for each name.
async fn collection(store: &dyn Documents) -> String {
    let collection = new_collection();
    for name in NAMES.iter().rev() {
        write(store, &DocumentKey::new(&collection, *name), &format!("{name:?}")).await;
    }
    // Collections with similar names.
    for other in [format!("{collection}#"), format!("{collection}a"), collection[..20].to_owned()] {
        write(store, &DocumentKey::new(other, "a#5"), "\"another\"").await;
    }
    collection
}

/// Returns all pages of a query, each within the limit.
async fn all_pages(store: &dyn Documents, query: DocumentQuery) -> Vec<DocumentPage> {
    let mut pages = Vec::new();
    let mut after = query.after.clone();
    loop {
        let page = store.documents(&query.clone().after(after)).await.expect("lists");
        assert!(page.documents.len() <= query.limit as usize, "a page over the limit");
        after = page.next.clone();
        pages.push(page);
        if after.is_none() {
            return pages;
        }
        assert!(pages.len() < 1_000, "a list without end");
    }
}

pub(super) async fn names(store: &dyn Documents, query: DocumentQuery) -> Vec<String> {
    let pages = all_pages(store, query).await;
    pages.into_iter().flat_map(|page| page.documents).map(|(name, _)| name).collect()
}

/// A list returns each document as a single read does.
pub async fn documents_are_listed_in_order(store: Arc<dyn Documents>) {
    let collection = collection(&*store).await;
    let pages = all_pages(&*store, DocumentQuery::new(&collection)).await;
    let documents: Vec<_> = pages.into_iter().flat_map(|page| page.documents).collect();
    assert_eq!(documents.iter().map(|(name, _)| name).collect::<Vec<_>>(), NAMES);
    for (name, document) in documents {
        assert_eq!(document.body, format!("{name:?}"));
        assert_eq!(found(&*store, &DocumentKey::new(&collection, name)).await, Some(document));
    }
    let down = names(&*store, DocumentQuery::new(&collection).descending()).await;
    assert!(down.iter().rev().eq(NAMES), "{down:?}");
    let none = store.documents(&DocumentQuery::new(new_collection())).await.expect("lists");
    assert_eq!(none, DocumentPage::default());
}

/// For every prefix, start, direction and limit: the same as a list that is sorted and cut.
pub async fn every_query_is_answered_as_asked(store: Arc<dyn Documents>) {
    let collection = collection(&*store).await;
    for prefix in ["", "a", "a#", "a#1", "aaa", "ü", "\u{1f980}"] {
        for after in [None, Some(""), Some("a"), Some("a#1"), Some("a#11"), Some("Zz"), Some("\u{10ffff}")] {
            for descending in [false, true] {
                let mut expected: Vec<_> =
                    NAMES.into_iter().filter(|name| name.starts_with(prefix)).collect();
                if descending {
                    expected.reverse();
                }
                expected.retain(|name| {
                    after.is_none_or(|after| if descending { *name < after } else { *name > after })
                });
                for limit in [1, 3, 100] {
                    let query = DocumentQuery::new(&collection).prefix(prefix).limit(limit);
                    let query = query.after(after.map(str::to_owned));
                    let query = if descending { query.descending() } else { query };
                    let listed = names(&*store, query.clone()).await;
                    assert_eq!(listed, expected, "{query:?}");
                }
            }
        }
    }
}

/// For all bounds, starts, directions, and limits: the same as a list that is sorted and cut.
pub async fn ranges_of_names_include_their_bounds(store: Arc<dyn Documents>) {
    let collection = collection(&*store).await;
    let bounds = [None, Some(""), Some("a"), Some("a#11"), Some("aa"), Some("\u{1f980}"), Some("\u{10ffff}")];
    for from in bounds {
        for until in bounds {
            for after in [None, Some(""), Some("a#"), Some("b"), Some("\u{10ffff}")] {
                for descending in [false, true] {
                    let mut expected: Vec<_> = NAMES.into_iter().collect();
                    if descending {
                        expected.reverse();
                    }
                    expected.retain(|name| {
                        from.is_none_or(|from| *name >= from)
                            && until.is_none_or(|until| *name <= until)
                            && after
                                .is_none_or(|after| if descending { *name < after } else { *name > after })
                    });
                    for limit in [3, 100] {
                        let query = DocumentQuery::new(&collection).limit(limit);
                        let query = query.from(from.map(str::to_owned)).until(until.map(str::to_owned));
                        let query = query.after(after.map(str::to_owned));
                        let query = if descending { query.descending() } else { query };
                        assert_eq!(names(&*store, query.clone()).await, expected, "{query:?}");
                    }
                }
            }
        }
    }
    let mixed = DocumentQuery::new(&collection).prefix("a").from(Some("a".to_owned()));
    let error = store.documents(&mixed).await.expect_err("a prefix and a bound").to_string();
    assert!(error.contains("a query of documents has both a prefix and bounds"), "{error}");
}

/// The next page continues after the last document, even if that was deleted and others were added.
pub async fn a_list_goes_on_while_documents_change(store: Arc<dyn Documents>) {
    let collection = collection(&*store).await;
    let key = |name: &str| DocumentKey::new(&collection, name);
    let mut query = DocumentQuery::new(&collection).prefix("a#").limit(1);
    for name in ["a#", "a#1"] {
        let page = store.documents(&query).await.expect("lists");
        assert_eq!(page.next.as_deref(), Some(name));
        query = query.after(page.next);
    }
    let set =
        new_set().delete(key("a#1"), ExpectedDocument::Any).put(key("a#11"), ExpectedDocument::Absent, "1");
    store.change(&set).await.expect("changes");
    write(&*store, &key("a#0"), "1").await;
    assert_eq!(names(&*store, query).await, ["a#10", "a#11", "a#2"]);
}

/// The rest follows on the next pages.
pub async fn more_than_1_megabyte_is_listed_whole(store: Arc<dyn Documents>) {
    let collection = new_collection();
    for n in 0..8 {
        let body = Pattern { seed: n, bytes: 300_000 }.payload();
        write(&*store, &DocumentKey::new(&collection, n.to_string()), &body).await;
    }
    for query in [DocumentQuery::new(&collection), DocumentQuery::new(&collection).descending()] {
        let pages = all_pages(&*store, query.clone()).await;
        let mut documents: Vec<_> = pages.into_iter().flat_map(|page| page.documents).collect();
        if query.descending {
            documents.reverse();
        }
        assert_eq!(documents.len(), 8);
        for (n, (name, document)) in documents.iter().enumerate() {
            assert_eq!(*name, n.to_string());
            assert!(document.body == Pattern { seed: n as u64, bytes: 300_000 }.payload(), "{name} is cut");
        }
    }
}

/// Eventually consistent lists include older documents.
pub async fn an_eventual_list_is_complete_in_time(store: Arc<dyn Documents>) {
    let collection = collection(&*store).await;
    for _ in 0..600 {
        if names(&*store, DocumentQuery::new(&collection).eventually().limit(4)).await == NAMES {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("documents are missing after a minute");
}
