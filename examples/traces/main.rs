//! Traces with OpenTelemetry: prints the spans of two commands, of the requests that they send, and of a projection.
//!
//! This example writes the spans to the standard output. To send them to a collector, replace the exporter by that of
//! the crate `opentelemetry-otlp`; nothing else changes.

use std::error::Error;

use es_core::prelude::*;
use es_core::read_model::AggregateIds;
use es_dynamo::{DynamoStore, Indexer};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};

#[event]
pub struct Deposited {
    cents: u64,
}

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "account", id = String, events(Deposited))]
pub struct Account {
    balance: u64,
}

pub struct Deposit {
    cents: u64,
}

#[handlers]
impl Account {
    #[apply]
    fn deposited(&mut self, event: &Deposited) {
        self.balance += event.cents;
    }

    #[handle]
    fn deposit(&self, command: &Deposit) -> Deposited {
        Deposited { cents: command.cents }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        .with_resource(Resource::builder().with_service_name("traces").build())
        .build();
    // Requests to DynamoDB are spans at DEBUG. The SDK has many more spans at that level.
    let spans =
        Targets::new().with_target("es_core", LevelFilter::INFO).with_target("es_dynamo", LevelFilter::DEBUG);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("traces")).with_filter(spans);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;

    let store = DynamoStore::embedded().await?;
    let accounts: Repository<Account> = Repository::new(store.clone());
    accounts.execute("ann", Deposit { cents: 500 }).await?;
    accounts.execute("ann", Deposit { cents: 200 }).await?;

    let indexer = Indexer::builder(&store).build()?;
    indexer.shutdown(); // it indexes what is there, and returns
    indexer.run().await?;
    Projector::new(store.clone(), AggregateIds::<Account>::new(&store)).run_until_caught_up().await?;

    provider.shutdown()?;
    Ok(())
}
