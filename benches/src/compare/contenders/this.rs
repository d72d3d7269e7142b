//! This framework.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ScalarAttributeType;
use es_core::snapshot::{Snapshot, SnapshotPolicy};
use es_core::store::Read;
use es_core::{Aggregate, EventStore, Repository, StreamId, Version};
use es_dynamo::{DynamoStore, names};
use futures_util::TryStreamExt;

use super::{Contender, Failure, Layout};
use crate::domain::{Account, Deposit};
use crate::tables;

/// The size of the cache, which exceeds the number of accounts of a run.
const CACHED: usize = 1_000;

pub struct This {
    accounts: Repository<Account>,
}

impl This {
    pub fn plain(client: &Client, prefix: &str) -> Result<Self, Failure> {
        let store = store(client, prefix)?;
        Ok(Self { accounts: Repository::builder(store).snapshots(SnapshotPolicy::Never).build() })
    }

    pub fn with_snapshots(client: &Client, prefix: &str) -> Result<Self, Failure> {
        Ok(Self { accounts: Repository::new(store(client, prefix)?) })
    }

    pub fn with_adaptive_snapshots(client: &Client, prefix: &str) -> Result<Self, Failure> {
        let builder = Repository::builder(store(client, prefix)?);
        Ok(Self { accounts: builder.snapshots(SnapshotPolicy::Adaptive).build() })
    }

    pub fn with_eventual_reads(client: &Client, prefix: &str) -> Result<Self, Failure> {
        Ok(Self { accounts: Repository::builder(store(client, prefix)?).eventual_reads().build() })
    }

    pub fn with_cache(client: &Client, prefix: &str) -> Result<Self, Failure> {
        let builder = Repository::builder(store(client, prefix)?);
        Ok(Self { accounts: builder.snapshots(SnapshotPolicy::Never).cache(CACHED).build() })
    }
}

#[async_trait]
impl Contender for This {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        let done = self.accounts.execute(&id.to_owned(), Deposit { times: events }).await?;
        std::hint::black_box(done.state);
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        Ok(self.accounts.load(&id.to_owned()).await?.state)
    }

    async fn settle(&self) {
        self.accounts.flush().await;
    }
}

fn store(client: &Client, prefix: &str) -> Result<DynamoStore, Failure> {
    Ok(DynamoStore::builder().client(client.clone()).table(table(prefix)).build()?)
}

fn table(prefix: &str) -> String {
    Layout::Commits.tables(prefix).remove(0)
}

/// Creates the table without the stream that `DynamoStore::create_table` enables, because the tables of the other
/// contenders have none.
pub async fn create(client: &Client, prefix: &str) -> Result<(), Failure> {
    let keys = [names::PARTITION_KEY, names::SORT_KEY].map(|name| (name, ScalarAttributeType::S));
    tables::create(client, &table(prefix), &keys, None).await
}

pub async fn fill_snapshot(client: &Client, prefix: &str, id: &str, events: u64) -> Result<(), Failure> {
    let fingerprint = Account::snapshots().ok_or("accounts have snapshots")?.fingerprint();
    let state = serde_json::to_string(&Account::after(events))?;
    let (store, stream) = (store(client, prefix)?, StreamId::new(Account::NAME, id)?);
    // A snapshot has the time of the last commit in its state.
    let last = Read::all(stream.clone()).after(Version::new(events - 1));
    let pages: Vec<_> = store.read(last).try_collect().await?;
    let time = pages.iter().flat_map(|page| &page.commits).last().ok_or("the stream has commits")?.time;
    let snapshot = Snapshot::new(Version::new(events), time, fingerprint, state);
    store.write_snapshot(&stream, &snapshot, None).await?;
    Ok(())
}
