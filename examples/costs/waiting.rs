//! The cost of waiting until a projection has handled an event.

use std::error::Error;
use std::time::Duration;

use es_core::prelude::*;
use es_core::snapshot::SnapshotPolicy;
use es_core::{Cost, StreamId};
use es_dynamo::embedded::Engine;
use es_dynamo::{DynamoStore, Reconciler};

use crate::metered::Meter;
use crate::{Note, Notebook, Noted, notebook, row};

#[derive(Clone, Projection)]
#[projection(name = "index", events(Notebook(Noted)))]
struct Index;

impl Project<Noted> for Index {
    async fn project(&mut self, _: &Noted, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Prints the rows of `wait_for`, each for a wait after the first one of its process.
pub(super) async fn rows(meter: &Meter) -> Result<(), Box<dyn Error>> {
    let engine = Engine::in_memory()?;
    let open = || DynamoStore::builder().engine(&engine).build();
    let (store, other) = (open()?, open()?);
    store.create_table().await?;
    let (notebooks, id) = notebook(&store, 0, SnapshotPolicy::Never).await?;
    let stream = StreamId::new("notebook", &id)?;
    for (waiting, process) in [(&store, "in the process of the indexer"), (&other, "in another process")] {
        let projector = Projector::new(waiting.clone(), Index);
        let mut last = Cost::ZERO;
        for _ in 0..2 {
            let done = notebooks.execute(&id, Note { times: 1 }).await?;
            Reconciler::builder(&store).build().run().await?;
            Projector::new(store.clone(), Index).run_until_caught_up().await?;
            let wait = projector.wait_for(&stream, done.version, Duration::from_secs(60));
            let (waited, cost) = meter.measure(wait).await;
            waited?;
            last = cost;
        }
        row(&format!("wait for a projection that has handled the event, {process}"), 0, last);
    }
    Ok(())
}
