//! This framework.

use std::time::Duration;

use async_trait::async_trait;
use es_core::prelude::*;
use es_core::snapshot::SnapshotPolicy;
use es_postgres::PostgresStore;
use sqlx::postgres::PgPoolOptions;

use super::{Contender, Delivered, Subscription};
use crate::Failure;
use crate::domain::{Account, Deposit, Deposited};

/// The size of the cache, which exceeds the number of accounts of a run.
const CACHED: usize = 1_000;

pub struct This {
    accounts: Repository<Account>,
    store: PostgresStore,
    /// The store of the subscription.
    feed: PostgresStore,
    url: String,
    delivered: Delivered,
}

impl This {
    pub async fn open(url: &str, connections: u32, delivered: Delivered) -> Result<Self, Failure> {
        let store = store(url, connections).await?;
        let accounts = Repository::builder(store.clone()).snapshots(SnapshotPolicy::Never).build();
        Ok(Self { accounts, feed: store.clone(), store, url: url.to_owned(), delivered })
    }

    /// Reads the feed through another pool, as another process does.
    pub async fn apart(mut self) -> Result<Self, Failure> {
        self.feed = store(&self.url, 4).await?;
        Ok(self)
    }

    pub fn cached(mut self) -> Self {
        let builder = Repository::builder(self.store.clone()).snapshots(SnapshotPolicy::Never);
        self.accounts = builder.cache(CACHED).build();
        self
    }
}

#[async_trait]
impl Contender for This {
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure> {
        let done = self.accounts.execute(&id.to_owned(), super::deposits(events)).await?;
        std::hint::black_box(done.state);
        Ok(())
    }

    /// A single append has no `COMMIT`, so the command also has an idempotency key.
    async fn execute_in_transaction(&self, id: &str) -> Result<(), Failure> {
        self.accounts.once(id).execute(&id.to_owned(), Deposit { times: 1 }).await?;
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Account, Failure> {
        Ok(self.accounts.load(&id.to_owned()).await?.state)
    }

    fn subscribe(&self, poll: Option<Duration>) -> Option<Subscription> {
        let deliveries = Deliveries { delivered: self.delivered.clone() };
        let builder = Projector::builder(self.feed.clone(), deliveries);
        let projector = match poll {
            Some(interval) => builder.poll(interval).idle_poll(interval).build(),
            None => builder.build(),
        };
        Subscription::start(async move {
            if let Err(error) = projector.run().await {
                eprintln!("the projection has stopped: {error}");
            }
        })
    }
}

#[derive(Clone, Projection)]
#[projection(name = "deliveries", events(Account(Deposited)))]
struct Deliveries {
    delivered: Delivered,
}

#[handlers]
impl Deliveries {
    #[project]
    async fn deposited(&mut self, _: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        self.delivered.push(ctx.id());
        Ok(())
    }
}

async fn store(url: &str, connections: u32) -> Result<PostgresStore, Failure> {
    let options = PgPoolOptions::new().max_connections(connections).test_before_acquire(false);
    Ok(PostgresStore::builder(options.connect(url).await?).build()?)
}

pub async fn create(url: &str) -> Result<(), Failure> {
    Ok(store(url, 1).await?.migrate().await?)
}

pub fn fill() -> String {
    let events = format!(r#"[{{"t":"Deposited","p":{}}}]"#, Deposited::new().json());
    let bytes = events.len();
    format!(
        "INSERT INTO es.commits (stream, first, last, id, at, bytes, events) \
         SELECT 'account#{{id}}' || account, version, version, gen_random_uuid(), now(), {bytes}, '{events}' \
         FROM generate_series(1, {{accounts}}) AS account, generate_series(1, {{events}}) AS version"
    )
}
