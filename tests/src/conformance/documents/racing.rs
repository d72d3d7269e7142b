//! Concurrent changes.

use std::sync::Arc;

use es_core::documents::{ChangeError, Documents, ExpectedDocument};
use futures_util::future::join_all;

use super::{Absent, found, insist, new_keys, new_set, write};
use ExpectedDocument::At;

/// Both for an absent document and for an existing revision.
pub async fn of_many_writers_from_one_revision_one_wins(store: Arc<dyn Documents>) {
    let [key] = new_keys();
    let mut expected = Absent;
    for round in 0..5 {
        let sets = (0..8).map(|writer| new_set().put(key.clone(), expected, format!("[{round},{writer}]")));
        let sets: Vec<_> = sets.collect();
        let results = join_all(sets.iter().map(|set| insist(&*store, set))).await;
        let winners: Vec<_> = sets.iter().zip(&results).filter(|(_, result)| result.is_ok()).collect();
        let [(winner, _)] = winners[..] else { panic!("round {round}: {results:?}") };
        let losers = results.iter().filter_map(|result| result.as_ref().err());
        assert_eq!(losers.filter(|error| error.is_outdated()).count(), 7, "{results:?}");
        let document = found(&*store, &key).await.expect("is there");
        assert_eq!(document.revision, winner.revision());
        assert_eq!(Some(&document.body), winner.changes()[0].body.as_ref());
        expected = At(winner.revision());
    }
}

/// As for leases: exactly one of them succeeds.
pub async fn of_many_that_delete_one_revision_one_wins(store: Arc<dyn Documents>) {
    let [key] = new_keys();
    let at = write(&*store, &key, "{}").await;
    let sets: Vec<_> = (0..8).map(|_| new_set().delete(key.clone(), At(at))).collect();
    let results = join_all(sets.iter().map(|set| insist(&*store, set))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert_eq!(found(&*store, &key).await, None);
}

/// Of sets that share a document, the others write nothing.
pub async fn of_many_sets_from_one_revision_one_wins(store: Arc<dyn Documents>) {
    let [shared] = new_keys();
    let at = write(&*store, &shared, "{}").await;
    let sets = (0..8).map(|_| {
        let [own] = new_keys();
        (own.clone(), new_set().put(own, Absent, "1").put(shared.clone(), At(at), "1"))
    });
    let sets: Vec<_> = sets.collect();
    let results = join_all(sets.iter().map(|(_, set)| insist(&*store, set))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    for ((own, _), result) in sets.iter().zip(&results) {
        let is_there = found(&*store, own).await.is_some();
        assert_eq!(is_there, result.is_ok(), "{result:?}");
    }
}

/// Many writers increment two documents together: no increment is lost, and the two never differ.
pub async fn counts_are_never_lost(store: Arc<dyn Documents>) {
    let keys: [_; 2] = new_keys();
    let count = async || {
        for _ in 0..10 {
            loop {
                let mut set = new_set();
                for key in &keys {
                    let before = found(&*store, key).await;
                    let number = before.as_ref().map_or(0, |found| found.body.parse().expect("a number"));
                    let expected = ExpectedDocument::from(before.map(|found| found.revision));
                    set = set.put(key.clone(), expected, (number + 1_u32).to_string());
                }
                match insist(&*store, &set).await {
                    Ok(()) => break,
                    Err(ChangeError::Outdated { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    };
    join_all((0..4).map(|_| count())).await;
    let [one, two] = [found(&*store, &keys[0]).await, found(&*store, &keys[1]).await];
    assert_eq!(one.as_ref().map(|found| &*found.body), Some("40"));
    assert_eq!(one, two);
}
