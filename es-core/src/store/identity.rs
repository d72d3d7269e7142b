//! Which store a handle is on.

use std::sync::Arc;

/// Equal for handles on the same content, different for handles on different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreIdentity(usize);

impl StoreIdentity {
    /// The identity of all handles that share `content`.
    #[must_use]
    pub fn of<T>(content: &Arc<T>) -> Self {
        Self(Arc::as_ptr(content) as usize)
    }
}
