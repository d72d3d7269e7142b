//! Past states, by version and by time, and the history.

use std::sync::Arc;

use es_core::{EventId, EventStore, StoreError, Version};

use super::{account, append_commit, deposited};
use crate::conformance::support::{new_commit, time};
use crate::domain::{Account, Deposit, Deposited};
use es_core::{Apply, Repository};

/// Appends commits of 1, 3, and 2 deposits at the times 0, 10, and 20. Returns the states at all versions from 0.
async fn six_deposits(store: &Arc<dyn EventStore>, id: &str) -> Vec<Account> {
    let mut states = vec![Account::default()];
    let mut cents = 0;
    for (count, seconds) in [(1, 0), (3, 10), (2, 20)] {
        let mut events = Vec::new();
        for _ in 0..count {
            cents += 1;
            events.push(deposited(cents, &format!("n{cents}")));
            let mut state = states.last().expect("a state").clone();
            state.apply(&Deposited { cents, note: format!("n{cents}") });
            states.push(state);
        }
        let mut commit = new_commit(events);
        commit.time = time(seconds);
        append_commit(store, id, commit).await;
    }
    states
}

/// Including versions within a commit.
pub async fn load_at_is_the_state_at_every_version(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let states = six_deposits(&store, &id).await;
    for (state, version) in states.iter().zip(0_u64..) {
        let loaded = accounts.load_at(&id, Version::new(version)).await.expect("loads");
        assert_eq!((&loaded.state, loaded.version), (state, Version::new(version)));
    }
    let error = accounts.load_at(&id, Version::new(7)).await.expect_err("not reached");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("has no version 7, its last is 6"), "{error}");
}

/// A commit is included from its millisecond on.
pub async fn load_as_of_is_the_state_at_a_time(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    let states = six_deposits(&store, &id).await;
    for (seconds, version) in [(-1, 0_usize), (0, 1), (9, 1), (10, 4), (19, 4), (20, 6), (9999, 6)] {
        let loaded = accounts.load_as_of(&id, time(seconds)).await.expect("loads");
        assert_eq!((&loaded.state, loaded.version), (&states[version], Version::new(version as u64)));
    }
}

/// Versions, times, and ids, as a stream and as a list.
pub async fn history_tells_every_event(store: Arc<dyn EventStore>) {
    let (accounts, id) = account(&store);
    assert_eq!(accounts.history(&id).all().await.expect("reads"), []);
    six_deposits(&store, &id).await;
    let done = accounts.execute(&id, Deposit::one(7, "n7")).await.expect("accepted");

    let all = accounts.history(&id).all().await.expect("reads");
    assert_eq!(all.iter().map(|event| event.version.get()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(all[3].time, time(10));
    assert_eq!(all[3].event, Deposited { cents: 4, note: "n4".to_owned() }.into());
    assert_eq!(all[6].id, EventId::new(done.commit.expect("recorded"), Version::new(7)));
    assert_eq!(all[6].id.to_string(), format!("{}/7", done.commit.expect("recorded")));

    let mut history = accounts.history(&id);
    for event in &all {
        assert_eq!(history.next().await.expect("an event").expect("reads"), *event);
    }
    assert!(history.next().await.is_none());

    // The commits end at the versions 1, 4, 6 and 7, which makes no difference.
    for (after, until) in (0..=9).flat_map(|after| (0..=9).map(move |until| (after, until))) {
        let part = accounts.history_between(&id, Version::new(after), Version::new(until));
        let expected: Vec<_> = all
            .iter()
            .filter(|event| event.version > Version::new(after) && event.version <= Version::new(until))
            .cloned()
            .collect();
        assert_eq!(part.all().await.expect("reads"), expected, "from {after} to {until}");
    }
}

/// With one small read.
pub async fn exists_is_known_without_loading(store: Arc<dyn EventStore>) {
    let (accounts, id): (Repository<Account>, _) = account(&store);
    assert!(!accounts.exists(&id).await.expect("is known"));
    assert!(!accounts.load(&id).await.expect("loads").exists());
    accounts.execute(&id, Deposit::one(1, "")).await.expect("accepted");
    assert!(accounts.exists(&id).await.expect("is known"));
    assert!(accounts.load(&id).await.expect("loads").exists());
}
