//! Claims: each is held by at most one stream.

use std::sync::Arc;

use es_core::store::{Claim, ClaimChange, WriteError, WriteSet};
use es_core::{EventStore, StreamId};
use futures_util::future::join_all;
use uuid::Uuid;

use super::write::{append, ends};
use crate::conformance::support::new_stream;

fn new_claim() -> Claim {
    Claim::new("email", format!("{}@example.com", Uuid::new_v4())).expect("valid")
}

fn take(stream: &StreamId, claim: &Claim) -> ClaimChange {
    ClaimChange::Take { stream: stream.clone(), claim: claim.clone() }
}

fn release(stream: &StreamId, claim: &Claim) -> ClaimChange {
    ClaimChange::Release { stream: stream.clone(), claim: claim.clone() }
}

/// Writes changes of claims together with an event of a stream.
async fn change(store: &dyn EventStore, changes: Vec<ClaimChange>) -> Result<(), WriteError> {
    let stream = changes[0].stream().clone();
    let version = store.head(&stream).await.expect("is known").version;
    let set = WriteSet::new().append(append(&stream, version.get(), 1)).claims(changes);
    store.write(&set).await.map(drop)
}

async fn holder(store: &dyn EventStore, claim: &Claim) -> Option<StreamId> {
    store.claim_holder(claim).await.expect("is known").stream
}

/// A claim is taken, taken again by its holder, refused to others, released, and free again.
pub async fn is_held_by_one_stream(store: Arc<dyn EventStore>) {
    let (claim, ann, bob) = (new_claim(), new_stream(), new_stream());
    assert_eq!(holder(&*store, &claim).await, None);
    for _ in 0..2 {
        change(&*store, vec![take(&ann, &claim)]).await.expect("is free, or ann's");
        assert_eq!(holder(&*store, &claim).await.as_ref(), Some(&ann));
    }
    for refused in [take(&bob, &claim), release(&bob, &claim)] {
        let error = change(&*store, vec![refused]).await.expect_err("is ann's");
        let WriteError::Claimed(claimed) = error else { panic!("{error:?}") };
        assert_eq!((&claimed.claim, claimed.holder.as_ref(), &claimed.wanted_by), (&claim, Some(&ann), &bob));
        assert!(!format!("{claimed} {claimed:?}").contains(claim.value()), "values are personal");
    }
    assert!(ends(&*store, &bob).await.is_empty());
    for _ in 0..2 {
        change(&*store, vec![release(&ann, &claim)]).await.expect("is ann's, or free");
        assert_eq!(holder(&*store, &claim).await, None);
    }
    change(&*store, vec![take(&bob, &claim)]).await.expect("is free");
    assert_eq!(holder(&*store, &claim).await.as_ref(), Some(&bob));
}

/// One write moves a claim from one stream to another, or swaps two.
pub async fn moves_within_a_set(store: Arc<dyn EventStore>) {
    let (claim, ann, bob) = (new_claim(), new_stream(), new_stream());
    change(&*store, vec![take(&ann, &claim)]).await.expect("is free");
    let moved = vec![release(&ann, &claim), take(&bob, &claim)];
    change(&*store, moved.clone()).await.expect("is ann's to give");
    assert_eq!(holder(&*store, &claim).await.as_ref(), Some(&bob));
    let error = change(&*store, moved).await.expect_err("is bob's now");
    assert!(matches!(&error, WriteError::Claimed(claimed) if claimed.wanted_by == ann), "{error:?}");
    let back = vec![release(&bob, &claim), take(&ann, &claim), release(&ann, &claim), take(&bob, &claim)];
    change(&*store, back).await.expect("is bob's in the end");
    assert_eq!(holder(&*store, &claim).await.as_ref(), Some(&bob));
    let error = change(&*store, vec![take(&bob, &claim), take(&ann, &claim)]).await.expect_err("two want it");
    assert!(matches!(error, WriteError::Claimed(_)), "{error:?}");
}

/// No event and no other claim of the set is written.
pub async fn that_is_taken_stops_the_whole_set(store: Arc<dyn EventStore>) {
    let (taken, free, ann, bob) = (new_claim(), new_claim(), new_stream(), new_stream());
    change(&*store, vec![take(&ann, &taken)]).await.expect("is free");
    for changes in [vec![take(&bob, &free), take(&bob, &taken)], vec![take(&bob, &taken), take(&bob, &free)]]
    {
        let error = change(&*store, changes).await.expect_err("one is ann's");
        assert!(matches!(&error, WriteError::Claimed(claimed) if claimed.claim == taken), "{error:?}");
    }
    assert_eq!(holder(&*store, &free).await, None);
    assert!(ends(&*store, &bob).await.is_empty());
}

/// Of several streams that take a claim concurrently, one succeeds.
pub async fn goes_to_one_of_many(store: Arc<dyn EventStore>) {
    let claim = new_claim();
    let streams: Vec<_> = (0..8).map(|_| new_stream()).collect();
    let results = join_all(streams.iter().map(|stream| async {
        let set = WriteSet::new().append(append(stream, 0, 1)).claims([take(stream, &claim)]);
        loop {
            match store.write(&set).await {
                Err(WriteError::Store(error)) if error.is_retryable() => {}
                result => return result,
            }
        }
    }))
    .await;
    let winners: Vec<_> = streams.iter().zip(&results).filter(|(_, result)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(holder(&*store, &claim).await.as_ref(), Some(winners[0].0));
    for result in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(matches!(result, WriteError::Claimed(_)), "{result:?}");
    }
}

/// Names and values that are equal when concatenated are different claims.
pub async fn of_any_text_is_kept_apart(store: Arc<dyn EventStore>) {
    let run = Uuid::new_v4();
    let claims: Vec<_> = [("a", "b#c"), ("a", "b"), ("a", "#b"), ("ab", "c"), ("$a", "b"), ("ä", "日本#語")]
        .into_iter()
        .map(|(name, value)| Claim::new(name, format!("{value}{run}")).expect("valid"))
        .collect();
    let streams: Vec<_> = claims.iter().map(|_| new_stream()).collect();
    for (claim, stream) in claims.iter().zip(&streams) {
        change(&*store, vec![take(stream, claim)]).await.expect("is free");
    }
    for (claim, stream) in claims.iter().zip(&streams) {
        assert_eq!(holder(&*store, claim).await.as_ref(), Some(stream), "{claim:?}");
    }
}
