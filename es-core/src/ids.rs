//! Sources of ids: random ids, and sequential ids for tests. Types that are accepted in place of an id.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

#[doc(inline)]
pub use crate::aggregate::IdFrom;

/// A source of unique ids for commits, and for handlers that call [`Context::new_id`](crate::Context::new_id).
///
/// ```
/// use es_core::ids::IdSource;
/// use es_core::uuid::Uuid;
///
/// /// Random ids of version 4, which do not contain the time.
/// #[derive(Debug)]
/// struct OpaqueIds;
///
/// impl IdSource for OpaqueIds {
///     fn new_id(&self) -> Uuid {
///         Uuid::new_v4()
///     }
/// }
///
/// assert_ne!(OpaqueIds.new_id(), OpaqueIds.new_id());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of ids",
    label = "not a source of ids",
    note = "use `RandomIds`, or `SequentialIds` in tests"
)]
pub trait IdSource: fmt::Debug + Send + Sync + 'static {
    /// Returns a new id, which differs from all earlier ones.
    fn new_id(&self) -> Uuid;
}

/// Random ids: UUIDs of version 7, which sort by creation time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    #[allow(clippy::disallowed_methods)] // the one place that makes random ids
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// Sequential ids for tests: 1, 2, 3, and so on. Clones share the counter.
///
/// ```
/// use es_core::ids::{IdSource, SequentialIds};
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
