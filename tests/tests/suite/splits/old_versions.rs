//! Workers of a version that does not know splits, beside those of the current one: a rolling deployment.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use es_core::feed::{Feed, FeedEnd, FeedPage, FeedRead, Slice, SliceTree, Slices};
use es_core::prelude::*;
use es_core::projection::{WaitError, workers_without_splits};
use es_core::serde::{Deserialize, Serialize};
use es_core::snapshot::Snapshot;
use es_core::store::{
    Append, AppendError, Appended, Claim, Commit, Head, Holder, IdempotencyKey, IdempotencyLookup, Page,
    Read, StoreIdentity, WriteError, WriteSet, Written,
};
use es_core::{Cost, EventStore, MemoryStore, StoreError, StreamId, Version};
use es_tests::chaos::run_seeds;
use es_tests::domain::{Account, Deposited};
use fastrand::Rng;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use serde_json::Value;

use super::{ACCOUNTS, LEASE, Life, deposit, projector};

/// A store as used by a process with the version before splits. Such a process knows the initial slices only, cannot
/// decode the page that closes a slice, and drops the attributes of checkpoints that it does not know.
#[derive(Clone)]
struct OldVersion {
    store: MemoryStore,
    /// How often it has read the end of a slice that was split.
    stops: Arc<AtomicU64>,
}

impl OldVersion {
    fn new(store: &MemoryStore) -> Self {
        Self { store: store.clone(), stops: Arc::default() }
    }
}

/// Removes the attributes of checkpoints and heartbeats that the version does not know.
fn known(key: &DocumentKey, body: String) -> String {
    if !key.collection().starts_with("projection#") {
        return body;
    }
    let Ok(Value::Object(mut content)) = serde_json::from_str(&body) else { return body };
    content.retain(|name, _| !["closed", "is_omitted", "splits"].contains(&name.as_str()));
    Value::Object(content).to_string()
}

#[async_trait]
impl Documents for OldVersion {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let mut found = self.store.document(key).await?;
        if let Some(document) = &mut found {
            document.body = known(key, std::mem::take(&mut document.body));
        }
        Ok(found)
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        let mut page = self.store.documents(query).await?;
        for (name, document) in &mut page.documents {
            let key = DocumentKey::new(&query.collection, name.as_str());
            document.body = known(&key, std::mem::take(&mut document.body));
        }
        Ok(page)
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        let changes = set.changes().iter().cloned().map(|mut change| {
            change.body = change.body.map(|body| known(&change.key, body));
            change
        });
        let old = ChangeSet::new(set.revision().as_uuid()).with_changes(changes);
        self.store.change(&old.with_additional(set.additional_writes().to_vec())).await
    }
}

#[async_trait]
impl Feed for OldVersion {
    async fn slices(&self) -> Result<Slices, StoreError> {
        self.store.slices().await
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        Ok(SliceTree::new(self.store.slices().await?))
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        let page = self.store.read_feed(read).await?;
        if page.is_closed {
            self.stops.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::corrupt_item("a page", "it has the format 2: update the application"));
        }
        Ok(page)
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.store.feed_end(slice).await.map(|end| end.with_closed(false))
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.store.indexed(stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.store.growth()
    }
}

#[async_trait]
impl EventStore for OldVersion {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        self.store.append(append).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.store.write(set).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.store.claim_holder(claim).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.store.idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        self.store.read(read)
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.store.head(stream).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.store.write_snapshot(stream, snapshot, replaces).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.store.erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.store.restore(commits, end).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.store.spawn(task);
    }
}

impl fmt::Debug for OldVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OldVersion").finish()
    }
}

/// The versions of an account's deposits, in the order in which they were handled.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "seen", key = account)]
struct Seen {
    account: String,
    versions: Vec<u64>,
}

#[derive(Clone, Projection)]
#[projection(name = "history", events(Account(Deposited)))]
struct History {
    #[read_model]
    seen: ReadModel<Seen>,
}

impl History {
    fn new(store: &MemoryStore) -> Self {
        Self { seen: ReadModel::of::<Self>(store) }
    }
}

impl Project<Deposited> for History {
    async fn project(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        let account = ctx.id().to_owned();
        let mut versions = self.seen.get(&account).await?.map_or_else(Vec::new, |seen| seen.versions);
        versions.push(ctx.version().get());
        Ok(self.seen.put(Seen { account, versions })?)
    }
}

#[tokio::test(start_paused = true)]
async fn workers_that_do_not_follow_splits_are_found_while_they_live() {
    let store = MemoryStore::new();
    assert!(workers_without_splits(&store).await.expect("reads").is_empty());
    let work = |projector: Projector<History>| tokio::spawn(async move { projector.run().await });
    let old = work(projector(OldVersion::new(&store), History::new(&store)).build());
    let _new = work(projector(store.clone(), History::new(&store)).build());
    tokio::time::sleep(LEASE * 2).await;
    let found = workers_without_splits(&store).await.expect("reads");
    assert_eq!(found, [("history".to_owned(), 1)].into());
    old.abort();
    tokio::time::sleep(LEASE * 3).await;
    assert!(workers_without_splits(&store).await.expect("reads").is_empty(), "it has died");
}

/// Workers of both versions die, and slices are split at any time. Then the old version ends.
#[test]
fn a_split_during_a_rolling_deployment_loses_and_repeats_nothing() {
    let reports = run_seeds(150, async |seed| {
        let (store, mut random) = (MemoryStore::new(), Rng::with_seed(seed));
        let mut expected = vec![0; ACCOUNTS];
        let (mut old, mut new) = (Life::default(), Life::default());
        let old_version = OldVersion::new(&store);
        for _ in 0..25 {
            let history = || History::new(&store);
            old.step(&mut random, |batch| projector(old_version.clone(), history()).batch(batch).build());
            new.step(&mut random, |batch| projector(store.clone(), history()).batch(batch).build());
            new.split(&store, &mut random).await?;
            let account = random.usize(..ACCOUNTS);
            let versions = deposit(&store, &format!("account-{account}"), random.usize(1..3)).await;
            expected[account] = *versions.end();
            tokio::time::sleep(std::time::Duration::from_millis(random.u64(..300))).await;
        }
        old.end();
        new.end();
        let last = projector(store.clone(), History::new(&store)).build();
        finish(&last).await?;
        for (account, count) in expected.into_iter().enumerate() {
            let row = History::new(&store).seen.get(&format!("account-{account}")).await;
            let seen = row.map_err(|error| error.to_string())?.map_or_else(Vec::new, |seen| seen.versions);
            if seen != (1..=count).collect::<Vec<_>>() {
                return Err(format!("account {account} has {count} events, handled were {seen:?}"));
            }
        }
        let progress = last.progress().await.map_err(|error| error.to_string())?;
        if progress.lag() > 0 || progress.stopped().count() > 0 {
            return Err(format!("not everything is handled: {progress:?}"));
        }
        Ok((new.splits, old.deaths + new.deaths, old_version.stops.load(Ordering::Relaxed)))
    });
    let (splits, deaths, stops) =
        reports.iter().fold((0, 0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1, sum.2 + run.2));
    println!("{} runs with two versions, {splits} splits, {deaths} deaths, {stops} stops", reports.len());
    assert!(reports.len() < 100 || stops > 0, "the old version has stopped at no split");
}

/// Runs the current version until everything is handled. A slice may have been stopped by the old version.
async fn finish(projector: &Projector<History>) -> Result<(), String> {
    loop {
        match projector.run_until_caught_up().await {
            Ok(()) => return Ok(()),
            Err(WaitError::Stopped { slice, reason, .. }) if reason.contains("it has the format 2") => {
                projector.retry(slice).await.map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
