//! Aggregates with large events and states.

use std::sync::Arc;

use es_core::{EventStore, Repository, Version};
use uuid::Uuid;

use crate::domain::{Account, Deposit};

/// Commands, loads, and histories work as with small events. The states of this aggregate have several MB, and it takes
/// snapshots.
pub async fn commands_and_loads_see_large_events(store: Arc<dyn EventStore>) {
    let id = Uuid::new_v4().to_string();
    let repository = || -> Repository<Account> { Repository::new(Arc::clone(&store)) };
    let note = |n: u64| format!("{n}").repeat(500 * 1024);
    for n in 1..=8 {
        let done = repository().execute(&id, Deposit::one(n, note(n))).await.expect("accepted");
        assert_eq!(done.version, Version::new(n));
    }
    let loaded = repository().load(&id).await.expect("loads");
    assert_eq!((loaded.version, loaded.state.balance), (Version::new(8), 36));
    assert!(loaded.state.notes == (1..=8).map(note).collect::<Vec<_>>(), "the notes have changed");
    let third = repository().load_at(&id, Version::new(3)).await.expect("loads");
    assert!(third.state.notes == (1..=3).map(note).collect::<Vec<_>>(), "the notes have changed");
}
