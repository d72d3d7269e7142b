//! Decoding and folding alone: a repository on a store with prepared pages, a plain loop over the same payloads, and
//! one over the same pages. All of them own the data that they read, and free it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use chrono::DateTime;
use es_core::event::{CommitId, EventData};
use es_core::snapshot::{Snapshot, SnapshotPolicy};
use es_core::store::{
    Append, AppendError, Appended, Claim, Commit, Head, Holder, IdempotencyKey, IdempotencyLookup, Page,
    Read, StoreIdentity, WriteError, WriteSet, Written,
};
use es_core::{Cost, EventStore, Metadata, Repository, StoreError, StreamId, Version};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};

use crate::domain::{Account, Deposited};
use crate::plan::Plan;
use crate::report::median;

const COMMITS_A_PAGE: usize = 1_000;
const TURNS: usize = 15;

pub struct Folding {
    pub events_of_a_commit: u64,
    /// Events per second of a loop over payloads.
    pub payloads: f64,
    /// Events per second of a loop over the pages.
    pub pages: f64,
    /// Events per second of a repository.
    pub framework: f64,
    /// The speed of the framework relative to the loop: the median of the ratios of all turns.
    pub to_payloads: f64,
    pub to_pages: f64,
}

pub fn measure(plan: &Plan) -> Vec<Folding> {
    [1, 5].into_iter().map(|events_of_a_commit| fold(plan, events_of_a_commit)).collect()
}

fn fold(plan: &Plan, events_of_a_commit: u64) -> Folding {
    let commits = plan.folded / events_of_a_commit;
    let events = commits * events_of_a_commit;
    let payload = Deposited::new().json();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut turns = Vec::new();
    for turn in 0..=TURNS {
        // All data is prepared before the measurement, and each turn starts with another contender.
        let mut payloads: Vec<String> = (0..events).map(|_| payload.clone()).collect();
        let mut ready = pages(commits, events_of_a_commit, &payload);
        let store = Ready { pages: Arc::new(Mutex::new(pages(commits, events_of_a_commit, &payload))) };
        let accounts: Repository<Account> =
            Repository::builder(store).snapshots(SnapshotPolicy::Never).build();
        let mut rates = [0.0; 3];
        for place in 0..rates.len() {
            let which = (turn + place) % rates.len();
            rates[which] = rate(events, || match which {
                0 => fold_payloads(std::mem::take(&mut payloads)),
                1 => fold_pages(std::mem::take(&mut ready)),
                _ => runtime.block_on(accounts.load(&"a".to_owned())).expect("loads").state,
            });
        }
        turns.push(rates);
    }
    // The first turn warms up.
    let turns = &turns[1..];
    Folding {
        events_of_a_commit,
        payloads: median(turns.iter().map(|turn| turn[0])),
        pages: median(turns.iter().map(|turn| turn[1])),
        framework: median(turns.iter().map(|turn| turn[2])),
        to_payloads: median(turns.iter().map(|turn| turn[2] / turn[0])),
        to_pages: median(turns.iter().map(|turn| turn[2] / turn[1])),
    }
}

fn fold_payloads(payloads: Vec<String>) -> Account {
    let mut account = Account::default();
    for payload in payloads {
        account.add(&serde_json::from_str(&payload).expect("a deposit"));
    }
    account
}

fn fold_pages(pages: Vec<Page>) -> Account {
    let mut account = Account::default();
    for page in pages {
        for commit in page.commits {
            for event in commit.events {
                account.add(&serde_json::from_str(event.payload()).expect("a deposit"));
            }
        }
    }
    account
}

/// Returns the events per second of a fold, whose result must be the correct state.
fn rate(events: u64, fold: impl FnOnce() -> Account) -> f64 {
    let start = Instant::now();
    let account = fold();
    let taken = start.elapsed();
    assert_eq!(account.deposits, events);
    events as f64 / taken.as_secs_f64()
}

fn pages(commits: u64, events_of_a_commit: u64, payload: &str) -> Vec<Page> {
    let metadata = Arc::new(Metadata::new());
    let mut all = (0..commits).map(|commit| {
        let id = CommitId::new(uuid::Uuid::from_u128(u128::from(commit)));
        let first = Version::new(commit * events_of_a_commit + 1);
        // A store reads names from its items, so they are not literals.
        let event = |_| EventData::new("Deposited".to_owned(), 1, payload);
        let events = (0..events_of_a_commit).map(event).collect();
        Commit::new(id, first, DateTime::UNIX_EPOCH, events).with_metadata(Arc::clone(&metadata))
    });
    let page = || Page::new(all.by_ref().take(COMMITS_A_PAGE).collect(), Cost::default());
    std::iter::repeat_with(page).take_while(|page| !page.commits.is_empty()).collect()
}

/// A store that returns prepared pages, once.
#[derive(Clone)]
struct Ready {
    pages: Arc<Mutex<Vec<Page>>>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

#[async_trait]
impl EventStore for Ready {
    async fn append(&self, _: &Append) -> Result<Appended, AppendError> {
        Err(StoreError::invalid("this store is for reading").into())
    }

    async fn write(&self, _: &WriteSet) -> Result<Written, WriteError> {
        Err(StoreError::invalid("this store is for reading").into())
    }

    async fn claim_holder(&self, _: &Claim) -> Result<Holder, StoreError> {
        Err(StoreError::invalid("this store has no claims"))
    }

    async fn idempotency_record(&self, _: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        Err(StoreError::invalid("this store has no idempotency records"))
    }

    fn identity(&self) -> StoreIdentity {
        StoreIdentity::of(&self.pages)
    }

    fn read(&self, _: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let pages = std::mem::take(&mut *self.pages.lock().unwrap_or_else(PoisonError::into_inner));
        stream::iter(pages.into_iter().map(Ok)).boxed()
    }

    async fn head(&self, _: &StreamId) -> Result<Head, StoreError> {
        Err(StoreError::invalid("this store is for reading"))
    }

    async fn write_snapshot(
        &self,
        _: &StreamId,
        _: &Snapshot,
        _: Option<Version>,
    ) -> Result<Cost, StoreError> {
        Err(StoreError::invalid("this store is for reading"))
    }

    async fn restore(&self, _: &[Commit], _: &Append) -> Result<Appended, AppendError> {
        Err(StoreError::invalid("this store is for reading").into())
    }

    async fn erase(&self, _: &StreamId) -> Result<Cost, StoreError> {
        Err(StoreError::invalid("this store is for reading"))
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}
}
