//! Rules of a repository on a store.

pub mod archives;
pub mod cache;
pub mod claims;
pub mod commands;
pub mod creation;
pub mod damage;
pub mod eventual;
pub mod expecting;
pub mod groups;
pub mod lifecycle;
pub mod limits;
pub mod past;
pub mod races;
pub mod redelivery;
pub mod services;
pub mod sharing;
pub mod snapshots;
pub mod transactions;

use std::future::Future;
use std::sync::Arc;

use es_core::event::EventData;
use es_core::store::{Append, NewCommit};
use es_core::{Aggregate, EventStore, ExpectedVersion, Repository, StreamId};
use uuid::Uuid;

use super::support::new_commit;
use crate::domain::Account;

/// Returns a repository, and the id of a new account.
fn account(store: &Arc<dyn EventStore>) -> (Repository<Account>, String) {
    (Repository::new(Arc::clone(store)), Uuid::new_v4().to_string())
}

fn stream(id: &str) -> StreamId {
    StreamId::new(Account::NAME, id).expect("a valid stream")
}

/// Appends events without the repository.
async fn append(store: &Arc<dyn EventStore>, id: &str, events: Vec<EventData>) {
    append_commit(store, id, new_commit(events)).await;
}

async fn append_commit(store: &Arc<dyn EventStore>, id: &str, commit: NewCommit) {
    store.append(&Append::new(stream(id), ExpectedVersion::Any, commit)).await.expect("appends");
}

/// Returns a stored deposit.
fn deposited(cents: u64, note: &str) -> EventData {
    EventData::new("Deposited", 1, format!("{{\"cents\":{cents},\"note\":\"{note}\"}}"))
}

/// Runs a future to its end from a synchronous handler, as another process that is faster would. It runs on the runtime
/// of the test, because the connections of a store cannot be used after their runtime has ended.
fn meanwhile(other: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || runtime.block_on(other)).join().expect("does not panic");
}
