//! Commits of several items that are read while they are being written, so that only some of the items are visible.

use es_core::snapshot::Fingerprint;
use es_core::store::{Append, Read};
use es_core::{EventStore, StoreError, Version};

use super::support::*;

/// Returns the sort keys of a commit at the versions 2 to 9, with two events in each item.
fn keys() -> Vec<String> {
    [2, 4, 6, 8].into_iter().map(commit_key).collect()
}

async fn with_large_commit() -> (Watched, Vec<Item>) {
    let watched = watched().await;
    grow(&watched.other, &[1]).await;
    let large = Append::after_loaded(stream(), Version::FIRST, commit_of(events_of(8, 150_000)));
    watched.other.append(&large).await.expect("appends");
    let mut items = Vec::new();
    for key in keys() {
        items.push(get(&watched.other, &key).await);
    }
    (watched, items)
}

fn reads() -> [Read; 3] {
    let from_snapshot = |tail| Read::all(stream()).from_snapshot(Fingerprint::new(1), tail);
    [Read::all(stream()), from_snapshot(1), from_snapshot(100)]
}

/// A Query that runs concurrently with a transaction may return any of its items without the others.
#[tokio::test]
async fn items_that_are_not_visible_yet_are_read_again() {
    for absent in 1..16_u32 {
        let hidden: Vec<usize> = (0..4).filter(|bit| absent & (1 << bit) != 0).collect();
        // If no item is visible, the commit does not exist for the reader.
        if hidden.len() == 4 {
            continue;
        }
        let read = reads()[absent as usize % 3].clone();
        let (watched, items) = with_large_commit().await;
        for index in &hidden {
            delete(&watched.other, &keys()[*index]).await;
        }
        // They become visible before the second request, which is sent only because they are missing.
        let (mut queries, other) = (0, watched.other.clone());
        let late: Vec<Item> = hidden.iter().map(|index| items[*index].clone()).collect();
        watched.wire.plan(move |_| {
            queries += 1;
            let (other, late) = (other.clone(), late.clone());
            match queries {
                2 => Act::After(Box::pin(async move {
                    for item in late {
                        put(&other, item).await;
                    }
                })),
                _ => Act::Pass,
            }
        });
        let read_pages = pages(&watched.store, read.clone()).await;
        let read_pages = read_pages.unwrap_or_else(|error| panic!("{hidden:?}: {read:?}: {error}"));
        assert_eq!(ends_of(&read_pages), [(1, 1), (2, 9)], "{hidden:?}: {read:?}");
    }
}

#[tokio::test]
async fn items_that_remain_invisible_are_an_error() {
    for missing in 0..4 {
        for read in reads() {
            let (watched, _) = with_large_commit().await;
            delete(&watched.other, &keys()[missing]).await;
            let error = pages(&watched.store, read).await.expect_err("is damaged");
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains("order#ann"), "{error}");
        }
    }
}

/// A transaction is billed at twice the units, even if it is refused.
#[tokio::test]
async fn a_transaction_costs_twice_as_much() {
    let watched = watched().await;
    let large = || Append::after_loaded(stream(), Version::NONE, commit_of(events_of(4, 150_000)));
    let stored = watched.store.append(&large()).await.expect("appends");
    assert_eq!(watched.wire.seen(), ["TransactWriteItems"]);
    assert_eq!(stored.cost.requests, 1);
    // 600,000 bytes are 586 KB, and the size of each of the two items is rounded up.
    assert!((2.0 * 586.0..=2.0 * 590.0).contains(&stored.cost.write_units), "{}", stored.cost);
    let refused = watched.store.append(&large()).await.expect_err("too late");
    let es_core::store::AppendError::Conflict(refused) = refused else { panic!("{refused:?}") };
    assert!((refused.cost.write_units - stored.cost.write_units).abs() <= 8.0, "{}", refused.cost);
}
