//! Unreadable events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use es_core::event::{DecodeError, EventData};
use es_core::{EventStore, ExecuteError, StoreError, Version};

use super::{account, append, deposited};
use crate::domain::{Deposit, Deposited, Overdrawn};

/// No event is skipped silently.
pub async fn an_unknown_event_stops_the_load_and_is_named(store: Arc<dyn EventStore>) {
    for (event, expected) in [
        (EventData::new("Frozen", 1, "{}"), "the event `Frozen` is unknown here"),
        (EventData::new("Deposited", 9, "{}"), "`Deposited` was stored with schema version 9"),
    ] {
        let (accounts, id) = account(&store);
        append(&store, &id, vec![deposited(1, "a"), deposited(2, "b"), event]).await;
        append(&store, &id, vec![deposited(3, "c")]).await;

        let error = accounts.load(&id).await.expect_err("stops");
        let StoreError::Decode { stream, version, .. } = &error else { panic!("{error:?}") };
        assert_eq!((stream.id(), *version), (id.as_str(), Version::new(3)));
        assert!(error.to_string().contains(expected), "{error}");
        let refused = accounts.execute(&id, Deposit::one(1, "")).await.expect_err("stops");
        assert!(!refused.is_retryable(), "{refused:?}");

        let mut history = accounts.history(&id);
        for cents in [1, 2] {
            let event = history.next().await.expect("an event").expect("readable");
            assert!(
                matches!(event.event, crate::domain::AccountEvent::Deposited(Deposited { cents: c, .. }) if c == cents)
            );
        }
        assert!(history.next().await.expect("an answer").is_err());
        assert!(history.next().await.is_none(), "a history ends after its error");
        assert_eq!(accounts.load_at(&id, Version::new(2)).await.expect("before it").state.balance, 3);
    }
}

/// The error says what is wrong with the payload, and does not quote it.
pub async fn a_malformed_event_stops_the_load_and_is_not_quoted(store: Arc<dyn EventStore>) {
    for payload in ["{\"cents\":\"top secret\",\"note\":\"\"}", "{\"cents\":1}", "{", "", "null"] {
        let (accounts, id) = account(&store);
        append(&store, &id, vec![EventData::new("Deposited", 1, payload)]).await;
        let error = accounts.load(&id).await.expect_err("stops");
        let StoreError::Decode { error: DecodeError::Malformed { name, .. }, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(name, "Deposited");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

/// The winner of a race is in the conflict; one that cannot be decoded is read, and named.
pub async fn a_winner_that_cannot_be_decoded_stops_the_command(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let decisions = AtomicU32::new(0);
    let error = accounts
        .decide(&id, async |_, _| {
            if decisions.fetch_add(1, Ordering::SeqCst) == 0 {
                append(&store, &id, vec![deposited(1, "a"), EventData::new("Frozen", 1, "{}")]).await;
            }
            Ok::<_, Overdrawn>(Deposited { cents: 1, note: "late".to_owned() }.into())
        })
        .await
        .expect_err("stops");
    let ExecuteError::Store(StoreError::Decode { version, .. }) = &error else { panic!("{error:?}") };
    assert_eq!((*version, decisions.into_inner()), (Version::new(2), 1));
    assert_eq!(accounts.version(&id).await.expect("is known"), Version::new(2));
}

/// Retired events keep their versions and have no effect.
pub async fn a_retired_event_is_skipped(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let flagged = EventData::new("AccountFlagged", 3, "whatever it was");
    append(&store, &id, vec![deposited(1, "a"), flagged.clone(), deposited(2, "b")]).await;
    append(&store, &id, vec![flagged]).await;
    let loaded = accounts.load(&id).await.expect("loads");
    assert_eq!((loaded.state.balance, loaded.version), (3, Version::new(4)));
    assert_eq!(accounts.execute(&id, Deposit::one(1, "c")).await.expect("accepted").version, 5);
    let versions: Vec<_> =
        accounts.history(&id).all().await.expect("reads").iter().map(|event| event.version.get()).collect();
    assert_eq!(versions, [1, 3, 5]);
}
