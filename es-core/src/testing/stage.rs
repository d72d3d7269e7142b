//! An aggregate in a test, without a store.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::diff::diff;
use crate::aggregate::Aggregate;
use crate::command::Context;
use crate::event::{Event, EventData};
use crate::events::Events;
use crate::ids::{IdSource, SequentialIds};
use crate::metadata::Metadata;
use crate::stream_id::StreamId;
use crate::version::Version;

/// An aggregate in a test: what a repository would hold of it, without a store.
pub(crate) struct Stage<A: Aggregate> {
    pub(crate) state: A,
    pub(crate) version: Version,
    pub(crate) id: Option<A::Id>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) ids: Arc<dyn IdSource>,
}

impl<A: Aggregate> Stage<A> {
    pub(crate) fn new() -> Self {
        Self {
            state: A::default(),
            version: Version::NONE,
            id: None,
            now: DateTime::UNIX_EPOCH,
            metadata: Arc::default(),
            ids: Arc::new(SequentialIds::default()),
        }
    }

    pub(crate) fn context(&self) -> Context<A> {
        Context::staged(self.id.clone(), self.version, self.now, Arc::clone(&self.ids))
            .with_metadata(Arc::clone(&self.metadata))
    }

    /// Applies events as a repository would: after they were stored and read back.
    pub(crate) fn record(&mut self, events: &Events<A>) -> Result<(), String> {
        check_claims(events)?;
        for event in events.as_slice() {
            self.state.apply_event(&faithful(event)?);
            self.version = self.version.next();
        }
        Ok(())
    }
}

/// Returns the data of events that survive their own encoding: without a field that is skipped, a `NaN`, or an enum
/// whose variants look alike in JSON.
pub(crate) fn faithful_data<E: Event>(events: &[E]) -> Result<Vec<EventData>, String> {
    let data = |event: &E| {
        faithful(event)?;
        event.to_data().map_err(|error| error.to_string())
    };
    events.iter().map(data).collect()
}

/// Returns an event as it is read back, if that is the event that was stored.
fn faithful<E: Event>(event: &E) -> Result<E, String> {
    let decoded = read_back(event)?;
    match decoded == *event {
        true => Ok(decoded),
        false => {
            Err(format!("an event is read back as another one than was stored\n{}", diff(event, &decoded)))
        }
    }
}

/// What becomes of an event when it is stored and read again.
pub(crate) fn read_back<E: Event>(event: &E) -> Result<E, String> {
    let stored = event.to_data().map_err(|error| format!("{event:?} cannot be stored: {error}"))?;
    E::decode(&stored).map_err(|error| format!("{event:?} cannot be read back: {error}"))
}

fn check_claims<A: Aggregate>(events: &Events<A>) -> Result<(), String> {
    let stream = StreamId::new(A::NAME, "test").map_err(|error| error.to_string())?;
    events.claims(&stream).map(drop).map_err(|error| error.to_string())
}
