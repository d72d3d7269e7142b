//! The requests of an indexer and a projector while nothing happens.

use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use chrono::{DateTime, Utc};
use es_core::clock::Clock;
use es_core::prelude::*;
use es_dynamo::{DynamoStore, Indexer, StreamsClient, embedded};
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::balances::Balances;
use crate::domain::Deposit;
use crate::load;
use crate::meter::{Meter, MeteredConnector, Usage};

const HOUR: Duration = Duration::from_secs(3_600);

/// The requests of an hour.
pub struct Idle {
    pub table: Usage,
    /// Requests to the table's stream.
    pub stream: Usage,
    /// The reads of records among them, which are billed.
    pub records: Usage,
}

/// A clock on the paused time of tokio.
#[derive(Clone, Copy, Debug)]
struct Paused(Instant);

#[async_trait]
impl Clock for Paused {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + self.0.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    async fn timeout(&self, duration: Duration) {
        sleep(duration).await;
    }
}

/// Runs both with default settings in one process for an hour of paused time.
pub fn measure() -> Result<Idle, Failure> {
    eprintln!("idle: an hour");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let engine = embedded::Engine::in_memory()?;
        let (table, stream) = (Meter::default(), Meter::default());
        let records = Meter::of(|body| body["ShardIterator"].is_string());
        let metered = |connector: SharedHttpConnector, meter: &Meter| {
            SharedHttpConnector::new(MeteredConnector::new(connector, meter.clone()))
        };
        let connector = || SharedHttpConnector::new(engine.connector().in_place());
        let to_table = metered(connector(), &table);
        let to_stream = metered(metered(connector(), &records), &stream);
        let store = DynamoStore::builder()
            .client(aws_sdk_dynamodb::Client::from_conf(engine.config_through(to_table).build()))
            .streams_client(StreamsClient::from_conf(engine.streams_config_through(to_stream).build()))
            .build()?;
        store.create_table().await?;
        let indexer = Indexer::builder(&store).build()?;
        let clock = Paused(Instant::now());
        let projector = Projector::builder(store.clone(), Balances::new(&store)).clock(clock).build();
        let work = async {
            load::repository(&store).execute(&"first".to_owned(), Deposit).await?;
            sleep(HOUR).await;
            table.take();
            stream.take();
            records.take();
            sleep(HOUR).await;
            let idle = Idle { table: table.take(), stream: stream.take(), records: records.take() };
            projector.shutdown();
            indexer.shutdown();
            Ok::<_, Failure>(idle)
        };
        let (projected, indexed, idle) = tokio::join!(projector.run(), indexer.run(), work);
        projected?;
        indexed?;
        idle
    })
}
