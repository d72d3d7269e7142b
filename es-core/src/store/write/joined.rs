//! Writes of the caller's own.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;

/// A write of the caller's own, in the words of the store that is to carry it out.
///
/// Every store that keeps documents takes a [`DocumentCondition`](crate::documents::DocumentCondition).
/// A DynamoDB store takes those of `aws_sdk_dynamodb::types`: `Put`, `Update`, `Delete`, `ConditionCheck` and
/// `TransactWriteItem`.
#[derive(Clone)]
pub struct JoinedWrite {
    write: Arc<dyn Any + Send + Sync>,
    kind: &'static str,
}

impl JoinedWrite {
    /// Wraps a write.
    #[must_use]
    pub fn new<W: Send + Sync + 'static>(write: W) -> Self {
        Self { write: Arc::new(write), kind: type_name::<W>() }
    }

    /// The write, if it is of the type `W`.
    #[must_use]
    pub fn downcast_ref<W: 'static>(&self) -> Option<&W> {
        self.write.downcast_ref()
    }

    /// The name of the write's type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Shows what kind of write it is, not what it writes.
impl fmt::Debug for JoinedWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinedWrite({})", self.kind)
    }
}
