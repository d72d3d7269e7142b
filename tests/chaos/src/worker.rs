//! One process: clients, an indexer, projections, a process, and a publisher.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use es_core::event::EventData;
use es_core::process::Reacting;
use es_core::projection::{Progress, ProjectorError};
use es_core::publish::{Envelope, Publishing};
use es_core::{BoxError, EventContext, Projector, Repository};
use es_dynamo::Indexer;
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::broker::Broker;
use crate::client::Client;
use crate::domain::Release;
use crate::journal::Journal;
use crate::store::Store;

/// The number of concurrent commands of one process.
const CLIENTS: u64 = 3;
/// The lease of all workers: short, so that many leases expire during a run.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// The fraction of the broker's responses that are errors.
const BROKER_FAULTS: f64 = 0.05;

/// Runs until the stop file exists or the driver has ended.
pub(crate) async fn run<R: Release>(args: crate::Worker) -> Result<(), BoxError> {
    let driver = std::os::unix::process::parent_id();
    let store = Store::open(&args.endpoint, &args.table, None)?;
    // Notes contain the number of the process's incarnation, so that they are unique.
    let life = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let broker = Broker::open(&args.broker, args.seed ^ life, BROKER_FAULTS)?;
    let mut workers = Workers::<R>::start(&store, broker)?;
    let journal = Arc::new(Journal::open(&args.journal)?);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let client = Client::<R::Account> {
            accounts: Repository::builder(store.feed()).cache(16).build(),
            journal: Arc::clone(&journal),
            random: Rng::with_seed(args.seed ^ life ^ client),
            store: store.feed(),
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
    /// PostgreSQL needs none.
    indexer: Option<Indexer>,
    pub(crate) totals: Projector<R::Totals>,
    pub(crate) bonuses: Projector<Reacting<R::Bonuses>>,
    pub(crate) publishing: Projector<Publishing<Broker, Envelopes>>,
    /// Tables of PostgreSQL.
    pub(crate) ledger: Option<Projector<R::Ledger>>,
    tasks: JoinSet<Result<(), BoxError>>,
}

type Envelopes = fn(&EventData, &EventContext) -> Result<Envelope, BoxError>;

fn envelope(event: &EventData, ctx: &EventContext) -> Result<Envelope, BoxError> {
    Ok(Envelope::new(event, ctx, "application/json", event.payload()))
}

impl<R: Release> Workers<R> {
    /// Starts all workers.
    pub(crate) fn start(store: &Store, broker: Broker) -> Result<Self, BoxError> {
        let mut workers = Self::idle(store, broker)?;
        let (totals, bonuses) = (workers.totals.clone(), workers.bonuses.clone());
        let publishing = workers.publishing.clone();
        if let Some(indexer) = workers.indexer.clone() {
            workers.tasks.spawn(async move { Ok(indexer.run().await?) });
        }
        if let Some(ledger) = workers.ledger.clone() {
            workers.tasks.spawn(async move { Ok(ledger.run().await?) });
        }
        workers.tasks.spawn(async move { Ok(totals.run().await?) });
        workers.tasks.spawn(async move { Ok(bonuses.run().await?) });
        workers.tasks.spawn(async move { Ok(publishing.run().await?) });
        Ok(workers)
    }

    /// Returns workers that do not run, to query their progress.
    pub(crate) fn idle(store: &Store, broker: Broker) -> Result<Self, BoxError> {
        let feed = store.feed();
        let bonuses = R::bonuses(Repository::new(store.feed()));
        let ledger = |postgres| Projector::builder(store.feed(), R::ledger(postgres)).lease(LEASE).build();
        let indexer = match store {
            Store::Dynamo(store) => Some(Indexer::builder(store).lease(LEASE).build()?),
            Store::Postgres(_) => None,
        };
        let publishing = Publishing::new("published", broker, envelope as Envelopes);
        Ok(Self {
            indexer,
            totals: Projector::builder(store.feed(), R::totals(&feed)).lease(LEASE).build(),
            bonuses: Projector::process_builder(store.feed(), bonuses).lease(LEASE).build(),
            publishing: Projector::builder(store.feed(), publishing).lease(LEASE).build(),
            ledger: store.postgres().map(ledger),
            tasks: JoinSet::new(),
        })
    }

    /// Returns how many events the consumers have handled in total.
    pub(crate) async fn handled(&self) -> Result<u64, BoxError> {
        let all = self.progress().await.into_iter();
        all.map(|(_, progress)| Ok(progress?.finished())).sum()
    }

    /// Returns the progress of all consumers, by name.
    pub(crate) async fn progress(&self) -> Vec<(&'static str, Result<Progress, ProjectorError>)> {
        let mut all = vec![
            ("totals", self.totals.progress().await),
            ("bonuses", self.bonuses.progress().await),
            ("publishing", self.publishing.progress().await),
        ];
        if let Some(ledger) = &self.ledger {
            all.push(("ledger", ledger.progress().await));
        }
        all
    }

    pub(crate) async fn end(mut self) -> Result<(), BoxError> {
        self.totals.shutdown();
        self.bonuses.shutdown();
        self.publishing.shutdown();
        self.ledger.iter().for_each(Projector::shutdown);
        self.indexer.iter().for_each(Indexer::shutdown);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
