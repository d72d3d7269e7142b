//! Rebuilds of a read model.

use std::time::Instant;

use es_core::MemoryStore;
use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::projection::Start;
use es_dynamo::{Reconciler, embedded};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::balances::Balances;
use crate::load;
use crate::place::{self, Settings};
use crate::plan::Plan;

pub struct Rebuild {
    pub events: u64,
    pub per_second: f64,
    /// The peak of the bytes that it held, including the new rows and excluding the store's events.
    pub peak: u64,
}

/// The results on the embedded engine.
pub struct OnEngine {
    pub events: u64,
    /// Events per second while a table without a feed is indexed.
    pub indexed_per_second: f64,
    pub rebuilt_per_second: f64,
}

/// Allocations are counted by thread, so all work has to happen on this one.
pub fn measure(plan: &Plan) -> Result<Vec<Rebuild>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    plan.rebuilt_in_memory.iter().map(|events| in_memory(&runtime, plan, *events)).collect()
}

fn in_memory(runtime: &Runtime, plan: &Plan, events: u64) -> Result<Rebuild, Failure> {
    eprintln!("rebuild: {events} events in memory");
    let store = MemoryStore::new();
    runtime.block_on(load::fast(&load::repository(&store), plan.clients, events))?;
    let events = events / plan.clients * plan.clients;
    let projector = runtime.block_on(at_the_end(&store))?;

    let start = Instant::now();
    runtime.block_on(rebuild(&projector))?;
    let per_second = events as f64 / start.elapsed().as_secs_f64();
    runtime.block_on(replace(&projector, &store, events))?;

    let mut rebuilt = Ok(());
    let counted = allocation_counter::measure(|| rebuilt = runtime.block_on(rebuild(&projector)));
    rebuilt?;
    runtime.block_on(replace(&projector, &store, events))?;
    Ok(Rebuild { events, per_second, peak: counted.bytes_max })
}

pub async fn on_engine(plan: &Plan) -> Result<OnEngine, Failure> {
    eprintln!("rebuild: {} events on the embedded engine", plan.rebuilt_on_engine);
    let store = place::store(&embedded::Engine::in_memory()?, Settings::new(1), None).await?;
    load::fast(&load::repository(&store), plan.clients, plan.rebuilt_on_engine).await?;
    let events = plan.rebuilt_on_engine / plan.clients * plan.clients;

    let start = Instant::now();
    let indexed = Reconciler::builder(&store).build().run().await?.events_indexed;
    let indexing = start.elapsed();
    if indexed != events {
        return Err(format!("{indexed} of {events} events were indexed").into());
    }
    let projector = at_the_end(&store).await?;
    let start = Instant::now();
    rebuild(&projector).await?;
    let rebuilding = start.elapsed();
    replace(&projector, &store, events).await?;
    let per_second = |time: std::time::Duration| events as f64 / time.as_secs_f64();
    Ok(OnEngine {
        events,
        indexed_per_second: per_second(indexing),
        rebuilt_per_second: per_second(rebuilding),
    })
}

/// Creates a projection that starts at the end of the feed.
async fn at_the_end(store: &(impl Feed + Clone)) -> Result<Projector<Balances>, Failure> {
    let projector = Projector::builder(store.clone(), Balances::new(store)).start(Start::End).build();
    projector.run_until_caught_up().await?;
    Ok(projector)
}

async fn rebuild(projector: &Projector<Balances>) -> Result<(), Failure> {
    projector.rebuild().await?;
    Ok(projector.run_until_caught_up().await?)
}

/// Activates the new build, and checks that it contains all events.
async fn replace(
    projector: &Projector<Balances>,
    store: &(impl Feed + Clone),
    events: u64,
) -> Result<(), Failure> {
    projector.switch().await?;
    projector.delete_replaced().await?;
    let found = Balances::events(store).await?;
    if found != events {
        return Err(format!("{found} of {events} events are in the read model").into());
    }
    Ok(())
}
