//! One process: clients, an indexer, a projection, a process, and a publisher.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use es_core::event::EventData;
use es_core::feed::Feed;
use es_core::process::Reacting;
use es_core::publish::{Envelope, Publishing};
use es_core::{BoxError, EventContext, Projector, Repository};
use es_dynamo::{DynamoStore, Indexer};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::broker::Broker;
use crate::client::Client;
use crate::domain::Release;
use crate::journal::Journal;

/// The number of concurrent commands of one process.
const CLIENTS: u64 = 3;
/// The lease of all workers: short, so that many leases expire during a run.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// The fraction of the broker's responses that are errors.
const BROKER_FAULTS: f64 = 0.05;

/// Runs until the stop file exists or the driver has ended.
pub(crate) async fn run<R: Release>(args: crate::Worker) -> Result<(), BoxError> {
    let driver = std::os::unix::process::parent_id();
    let store = DynamoStore::builder().endpoint(&args.endpoint).table(&args.table).build()?;
    // Notes contain the number of the process's incarnation, so that they are unique.
    let life = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let broker = Broker::open(&args.broker, args.seed ^ life, BROKER_FAULTS)?;
    let mut workers = Workers::<R>::start(&store, broker)?;
    let journal = Arc::new(Journal::open(&args.journal)?);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let client = Client::<R::Account> {
            accounts: Repository::builder(store.clone()).cache(16).build(),
            journal: Arc::clone(&journal),
            random: Rng::with_seed(args.seed ^ life ^ client),
            store: store.clone(),
            prefix: format!("{}.{life}.{client}", args.seed),
            next: life * 1_000_000 + client * 100_000,
        };
        clients.spawn(client.run());
    }
    while !args.stop.exists() {
        tokio::select! {
            () = sleep(Duration::from_millis(50)) => {}
            // No fault may end a worker.
            ended = workers.tasks.join_next() => return Err(format!("a worker has ended: {ended:?}").into()),
            ended = clients.join_next() => return Err(format!("a client has ended: {ended:?}").into()),
        }
        if std::os::unix::process::parent_id() != driver {
            return Err("the driver has ended".into());
        }
    }
    clients.abort_all();
    workers.end().await
}

/// The workers of a process: the indexer and the consumers of the feed.
pub(crate) struct Workers<R: Release> {
    indexer: Indexer,
    pub(crate) totals: Projector<R::Totals>,
    pub(crate) bonuses: Projector<Reacting<R::Bonuses>>,
    pub(crate) publishing: Projector<Publishing<Broker, Envelopes>>,
    tasks: JoinSet<Result<(), BoxError>>,
}

type Envelopes = fn(&EventData, &EventContext) -> Result<Envelope, BoxError>;

fn envelope(event: &EventData, ctx: &EventContext) -> Result<Envelope, BoxError> {
    Ok(Envelope::new(event, ctx, "application/json", event.payload()))
}

impl<R: Release> Workers<R> {
    /// Starts all workers.
    pub(crate) fn start(store: &DynamoStore, broker: Broker) -> Result<Self, BoxError> {
        let mut workers = Self::idle(store, broker)?;
        let (indexer, totals) = (workers.indexer.clone(), workers.totals.clone());
        let (bonuses, publishing) = (workers.bonuses.clone(), workers.publishing.clone());
        workers.tasks.spawn(async move { Ok(indexer.run().await?) });
        workers.tasks.spawn(async move { Ok(totals.run().await?) });
        workers.tasks.spawn(async move { Ok(bonuses.run().await?) });
        workers.tasks.spawn(async move { Ok(publishing.run().await?) });
        Ok(workers)
    }

    /// Returns workers that do not run, to query their progress.
    pub(crate) fn idle(store: &DynamoStore, broker: Broker) -> Result<Self, BoxError> {
        let feed: Arc<dyn Feed> = Arc::new(store.clone());
        let bonuses = R::bonuses(Repository::new(store.clone()));
        let publishing = Publishing::new("published", broker, envelope as Envelopes);
        Ok(Self {
            indexer: Indexer::builder(store).lease(LEASE).build()?,
            totals: Projector::builder(store.clone(), R::totals(&feed)).lease(LEASE).build(),
            bonuses: Projector::process_builder(store.clone(), bonuses).lease(LEASE).build(),
            publishing: Projector::builder(store.clone(), publishing).lease(LEASE).build(),
            tasks: JoinSet::new(),
        })
    }

    /// Returns how many events the consumers have handled in total.
    pub(crate) async fn handled(&self) -> Result<u64, BoxError> {
        let [totals, bonuses, publishing] = [
            self.totals.progress().await?,
            self.bonuses.progress().await?,
            self.publishing.progress().await?,
        ];
        Ok(totals.finished() + bonuses.finished() + publishing.finished())
    }

    pub(crate) async fn end(mut self) -> Result<(), BoxError> {
        self.totals.shutdown();
        self.bonuses.shutdown();
        self.publishing.shutdown();
        self.indexer.shutdown();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
