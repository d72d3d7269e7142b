//! Where new ids come from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Makes ids: for commits, and for handlers that need one ([`Context::new_id`](crate::Context::new_id)).
pub trait IdSource: fmt::Debug + Send + Sync + 'static {
    /// An id that was never handed out before.
    fn new_id(&self) -> Uuid;
}

/// Random ids (UUID version 7: they sort by the time they were made).
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    #[allow(clippy::disallowed_methods)] // the one place that makes random ids
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// The ids 1, 2, 3 …, for tests. Clones share the count.
///
/// ```
/// use es_core::{IdSource, SequentialIds};
///
/// let ids = SequentialIds::default();
/// assert_eq!(ids.new_id().to_string(), "00000000-0000-0000-0000-000000000001");
/// assert_eq!(ids.new_id().as_u128(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SequentialIds {
    last: Arc<AtomicU64>,
}

impl IdSource for SequentialIds {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.last.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}
