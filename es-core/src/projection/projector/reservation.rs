//! The reservation of a name: two types with the same name would share their checkpoints.

use std::any::{TypeId, type_name};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::Inner;
use crate::ids::{IdSource, RandomIds};
use crate::projection::guard::caught;
use crate::projection::{Projection, ProjectorError};

/// The workers of this process, in the order in which they started.
static WORKERS: Mutex<Vec<Named>> = Mutex::new(Vec::new());

/// The projection that a worker runs.
#[derive(Clone, PartialEq)]
struct Named {
    /// An id in the worker's heartbeat. Unlike the worker's id, it is unique even in tests.
    run: Uuid,
    projection: TypeId,
    type_name: &'static str,
    name: String,
}

/// Reserves the name of a projection for its type while a worker runs.
pub(super) struct Reservation(Named);

impl Reservation {
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if two read models of the projection have the same name.
    pub(super) fn of<P: Projection>(inner: &Inner<P>) -> Result<Self, ProjectorError> {
        let named = Named {
            run: RandomIds.new_id(),
            projection: TypeId::of::<P>(),
            type_name: type_name::<P>(),
            name: inner.name.clone(),
        };
        // A projection that panics here also panics for each slice, where that is a failure of the slice.
        let rows = caught(|| {
            let mut projection = inner.projection.clone();
            projection.stages().iter().map(|stage| stage.name().to_owned()).collect::<Vec<_>>()
        });
        let mut rows = rows.unwrap_or_default();
        rows.sort_unstable();
        if let Some(pair) = rows.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ProjectorError::invalid(format!(
                "two read models of the projection `{}` have the name `{}`, so they would share their rows: write \
                 another `name` in the `#[row(…)]` of one of them",
                named.name, pair[0]
            )));
        }
        WORKERS.lock().unwrap_or_else(PoisonError::into_inner).push(named.clone());
        Ok(Self(named))
    }

    /// Returns the id of the worker in its heartbeat.
    pub(super) fn run(&self) -> Uuid {
        self.0.run
    }

    /// Checks that no earlier worker of this process among `runs` runs a different projection or process. `runs`
    /// are the workers with heartbeats under this name, so they use the same store.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if there is one.
    pub(super) fn check(&self, runs: &BTreeSet<Uuid>) -> Result<(), ProjectorError> {
        let workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        let before = workers.iter().take_while(|worker| worker.run != self.0.run);
        let mut others = before.filter(|worker| worker.projection != self.0.projection);
        others.find(|worker| runs.contains(&worker.run)).map_or(Ok(()), |other| {
            Err(ProjectorError::invalid(format!(
                "`{}` and `{}` have the name `{}`, so they would share their checkpoints: give one of them another name",
                other.type_name, self.0.type_name, self.0.name
            )))
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        WORKERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|worker| *worker != self.0);
    }
}
