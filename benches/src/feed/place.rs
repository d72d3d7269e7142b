//! The setups: in memory, or on an engine with an indexer.

use std::time::Duration;

use es_core::feed::Slices;
use es_dynamo::embedded;
use es_dynamo::{DynamoStore, Indexer};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::engine::Engine;
use crate::meter::{Meter, Usage};

/// The settings of an indexer.
#[derive(Clone, Copy, Debug)]
pub struct Indexing {
    pub slices: u32,
    pub poll: Duration,
    pub linger: Duration,
    /// Whether the indexer runs in the process that commits.
    pub is_beside: bool,
    /// Whether the table has a stream, as on DynamoDB, instead of the outbox of the embedded engine.
    pub has_stream: bool,
}

impl Indexing {
    /// The default settings of the indexer.
    pub const DEFAULT: Self = Self {
        slices: 1,
        poll: Duration::from_millis(500),
        linger: Duration::from_millis(200),
        is_beside: true,
        has_stream: false,
    };
    /// Learns of commits as an indexer in another process does.
    pub const ELSEWHERE: Self = Self { is_beside: false, ..Self::DEFAULT };
    /// The default settings, with a stream.
    pub const STREAM: Self = Self { has_stream: true, ..Self::DEFAULT };
    /// Learns of commits only from the stream.
    pub const STREAM_ELSEWHERE: Self = Self { has_stream: true, ..Self::ELSEWHERE };
    /// Polls more often, and waits only briefly for a page to fill.
    pub const QUICK: Self =
        Self { poll: Duration::from_millis(200), linger: Duration::from_millis(20), ..Self::DEFAULT };
    /// Waits longer for a page to fill.
    pub const PATIENT: Self = Self { linger: Duration::from_secs(2), ..Self::DEFAULT };
    /// Eight slices.
    pub const SLICED: Self = Self { slices: 8, ..Self::DEFAULT };
}

/// A store on a new engine, with a running indexer.
pub struct Indexed {
    pub store: DynamoStore,
    indexer: Indexer,
    running: JoinHandle<Result<(), es_core::StoreError>>,
    meter: Meter,
}

/// The work of an indexer.
pub struct Effort {
    pub events: u64,
    pub pages: u64,
    pub usage: Usage,
}

impl Indexed {
    pub async fn start(indexing: Indexing) -> Result<Self, Failure> {
        let meter = Meter::of(is_of_the_indexer);
        let engine = embedded::Engine::in_memory()?;
        let settings = Settings { has_stream: indexing.has_stream, ..Settings::new(indexing.slices) };
        let indexed = store(&engine, settings, Some(&meter)).await?;
        let indexer = Indexer::builder(&indexed).poll(indexing.poll).linger(indexing.linger).build()?;
        let running = tokio::spawn({
            let indexer = indexer.clone();
            async move { indexer.run().await }
        });
        let store = match indexing.is_beside {
            true => indexed,
            false => store(&engine, settings, None).await?,
        };
        Ok(Self { store, indexer, running, meter })
    }

    pub async fn stop(self) -> Result<Effort, Failure> {
        self.indexer.shutdown();
        self.running.await??;
        let progress = self.indexer.progress();
        Ok(Effort { events: progress.events, pages: progress.pages, usage: self.meter.take() })
    }
}

/// The settings of a store.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub slices: u32,
    /// Whether the table has a stream instead of an outbox.
    pub has_stream: bool,
    /// The maximum size in bytes of a commit that pages contain a copy of.
    pub max_copy: u64,
}

impl Settings {
    pub const fn new(slices: u32) -> Self {
        Self { slices, has_stream: false, max_copy: 0 }
    }
}

/// Creates a store with its table. `meter` counts its requests.
pub async fn store(
    engine: &embedded::Engine,
    settings: Settings,
    meter: Option<&Meter>,
) -> Result<DynamoStore, Failure> {
    let clients = Engine::Embedded(engine.clone());
    let client = meter.map_or_else(|| clients.client(), |meter| clients.metered_client(meter));
    let builder = match settings.has_stream {
        true => DynamoStore::builder().streams_client(engine.streams_client()),
        false => DynamoStore::builder().engine(engine),
    };
    let store = builder
        .client(client)
        .copy_commits(settings.max_copy)
        .slices(Slices::new(settings.slices).ok_or("a feed needs at least one slice")?)
        .build()?;
    store.create_table().await?;
    Ok(store)
}

/// Returns whether a request writes pages, summaries, or checkpoints of the indexer.
fn is_of_the_indexer(request: &Value) -> bool {
    let partition = request["Item"]["pk"].as_object().and_then(|pk| pk["S"].as_str());
    partition.is_some_and(|partition| partition.starts_with("$feed") || partition.contains("$indexer"))
}
