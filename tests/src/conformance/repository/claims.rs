//! Claims made by handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use es_core::store::Claim;
use es_core::{EventStore, Events, ExecuteError, StoreError};
use uuid::Uuid;

use super::{account, append, deposited, stream};
use crate::domain::{Account, HandleTaken, Overdrawn, TakeHandle};

fn new_handle() -> String {
    Uuid::new_v4().to_string()
}

/// The error names the holder. It is not retried as a conflict.
pub async fn a_taken_claim_names_its_holder(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    let handle = new_handle();
    let done = accounts.execute(&ann, TakeHandle { handle: handle.clone() }).await.expect("is free");
    assert_eq!((done.state.handle.as_ref(), done.cost.requests), (Some(&handle), 2));
    assert_eq!(accounts.claim_holder("handle", &handle).await.expect("is known"), Some(stream(&ann)));

    let error = accounts.execute(&bob, TakeHandle { handle: handle.clone() }).await.expect_err("is taken");
    let claimed = error.claimed().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!((claimed.claim.name(), claimed.holder.as_ref()), ("handle", Some(&stream(&ann))));
    assert!(!error.is_conflict() && !error.is_retryable());
    assert!(!format!("{error} {error:?}").contains(&handle));
    assert!(!accounts.exists(&bob).await.expect("is known"));
}

/// One write releases the old claim and takes the new one, together with the event.
pub async fn a_claim_is_given_back_with_the_next_one(store: Arc<dyn EventStore>) {
    let ((accounts, ann), (_, bob)) = (account(&store), account(&store));
    let (first, second) = (new_handle(), new_handle());
    for handle in [&first, &second] {
        accounts.execute(&ann, TakeHandle { handle: handle.clone() }).await.expect("is free");
    }
    assert_eq!(accounts.claim_holder("handle", &first).await.expect("is known"), None);
    accounts.execute(&bob, TakeHandle { handle: first.clone() }).await.expect("is free again");
    let error = accounts.execute(&ann, TakeHandle { handle: first }).await.expect_err("is bob's");
    assert!(error.claimed().is_some(), "{error:?}");
    assert_eq!(accounts.load(&ann).await.expect("loads").state.handle, Some(second));
}

/// Invalid claims, and claims without an event, are refused.
pub async fn a_claim_needs_an_event(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    for (events, reason) in [
        (Events::<Account>::none().claim("handle", "x"), "without an event"),
        (Events::from(HandleTaken { handle: String::new() }).claim("handle", ""), "empty value"),
        (Events::from(HandleTaken { handle: String::new() }).claim("hand#le", "x"), "or contain `#`"),
    ] {
        let result = accounts.decide(&id, async |_, _| Ok::<_, Overdrawn>(events.clone())).await;
        let error = result.expect_err(reason);
        let ExecuteError::Store(StoreError::Invalid { .. }) = &error else { panic!("{error:?}") };
        let source = std::error::Error::source(&error).expect("has a reason").to_string();
        assert!(source.contains(reason), "{source}");
    }
    assert!(!accounts.exists(&id).await.expect("is known"));
}

/// A decision that loses the race takes no claim, and is repeated on the current state.
pub async fn a_claim_is_not_taken_by_who_loses_the_race(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let (early, late) = (new_handle(), new_handle());
    let decisions = AtomicU32::new(0);
    let done = accounts
        .decide(&id, async |state, _| {
            if decisions.fetch_add(1, Ordering::SeqCst) == 0 {
                append(&store, &id, vec![deposited(5, "first")]).await;
            }
            let handle = if state.balance == 0 { &early } else { &late };
            Ok::<_, Overdrawn>(Events::from(HandleTaken { handle: handle.clone() }).claim("handle", handle))
        })
        .await
        .expect("accepted");
    assert_eq!((done.attempts, done.state.handle.as_ref(), done.state.balance), (2, Some(&late), 5));
    let holder = async |handle: &str| {
        store.claim_holder(&Claim::new("handle", handle).expect("valid")).await.expect("is known").stream
    };
    assert_eq!((holder(&early).await, holder(&late).await), (None, Some(stream(&id))));
}
