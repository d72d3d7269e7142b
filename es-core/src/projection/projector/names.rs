//! Names under which checkpoints and rows are stored: each belongs to one type.

use std::any::{TypeId, type_name};
use std::sync::{Mutex, PoisonError};

use super::Inner;
use crate::projection::guard::caught;
use crate::projection::{Projection, ProjectorError};
use crate::store::StoreIdentity;

/// The workers of this process.
static WORKERS: Mutex<Vec<Named>> = Mutex::new(Vec::new());

/// What a worker runs, and where.
#[derive(Clone, PartialEq)]
struct Named {
    store: StoreIdentity,
    name: String,
    projection: TypeId,
    type_name: &'static str,
}

/// Keeps the name of a projection for its type as long as a worker runs.
pub(super) struct Reservation(Named);

impl Reservation {
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when another projection or process with the name runs in this process on the same
    /// store, or two read models of the projection have one name.
    pub(super) fn of<P: Projection>(inner: &Inner<P>) -> Result<Self, ProjectorError> {
        let named = Named {
            store: inner.store.identity(),
            name: inner.name.clone(),
            projection: TypeId::of::<P>(),
            type_name: type_name::<P>(),
        };
        // A projection that panics here does so for each slice, too, where that is a failure of the slice.
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
        let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = |other: &&Named| {
            (other.store, &other.name) == (named.store, &named.name) && other.projection != named.projection
        };
        if let Some(other) = workers.iter().find(is_other) {
            return Err(ProjectorError::invalid(format!(
                "`{}` and `{}` have the name `{}`, so they would share their checkpoints: give one of them another name",
                other.type_name, named.type_name, named.name
            )));
        }
        workers.push(named.clone());
        Ok(Self(named))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = workers.iter().position(|worker| *worker == self.0) {
            workers.swap_remove(own);
        }
    }
}
