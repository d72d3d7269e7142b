//! Which build of a projection is to be read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ReadModelError;
use crate::documents::Documents;
use crate::projection::active_build;

/// For how long the answer counts. Rows of a build that is replaced stay until they are deleted on purpose.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Knows which build of a projection is to be read.
#[derive(Clone)]
pub(super) struct Builds {
    store: Arc<dyn Documents>,
    projection: Arc<str>,
    known: Arc<Mutex<Option<(Instant, u32)>>>,
}

impl Builds {
    pub(super) fn new(store: Arc<dyn Documents>, projection: &str) -> Self {
        Self { store, projection: projection.into(), known: Arc::default() }
    }

    pub(super) fn projection(&self) -> &str {
        &self.projection
    }

    /// The number of the build that is to be read.
    pub(super) async fn active(&self) -> Result<u32, ReadModelError> {
        if let Some((since, build)) = *self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && since.elapsed() < REMEMBERED
        {
            return Ok(build);
        }
        let build = active_build(&*self.store, &self.projection).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), build));
        Ok(build)
    }
}
