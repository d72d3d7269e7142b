//! How an event store uses a payload store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{PayloadError, PayloadName, PayloadPrefix, PayloadStore};

/// A payload store for the events and snapshots of an event store that are too large for its items, with settings.
///
/// ```
/// use es_core::MemoryStore;
/// use es_core::payloads::{MemoryPayloads, Payloads};
///
/// let payloads = Payloads::new(MemoryPayloads::new()).with_max_bytes(8 * 1024 * 1024).with_concurrency(4);
/// # let _ = payloads;
/// ```
#[derive(Clone, Debug)]
pub struct Payloads {
    store: Arc<dyn PayloadStore>,
    prefix: Option<PayloadPrefix>,
    max_bytes: u64,
    concurrency: usize,
}

impl Payloads {
    /// The default maximum size of an event or a snapshot in bytes: 64 MB.
    pub const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;

    /// Uses `store` with the default settings.
    #[must_use]
    pub fn new(store: impl PayloadStore) -> Self {
        Self { store: Arc::new(store), prefix: None, max_bytes: Self::DEFAULT_MAX_BYTES, concurrency: 8 }
    }

    /// Sets the beginning of the names of objects (default: the name of the table, and `payloads`).
    ///
    /// Two event stores must not use the same prefix of one payload store: each deletes objects that it does not refer
    /// to.
    #[must_use]
    pub fn with_prefix(mut self, prefix: PayloadPrefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Sets the maximum size of the payload of an event, and of the state in a snapshot, in bytes (default: 64 MB).
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how many objects a load or an append requests concurrently (default: 8, at least 1).
    #[must_use]
    pub fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// Returns the payload store.
    #[must_use]
    pub fn store(&self) -> &dyn PayloadStore {
        &*self.store
    }

    /// Returns the prefix, if one is set.
    #[must_use]
    pub fn prefix(&self) -> Option<&PayloadPrefix> {
        self.prefix.as_ref()
    }

    /// Returns the maximum size of a payload or a state in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Stores objects, several concurrently. For use by event stores.
    ///
    /// # Errors
    ///
    /// The first error. Some of the objects may have been stored.
    pub async fn put_all(&self, objects: Vec<(PayloadName, Bytes)>) -> Result<(), PayloadError> {
        let puts =
            objects.into_iter().map(|(name, content)| async move { self.store.put(&name, content).await });
        stream::iter(puts).buffer_unordered(self.concurrency).try_collect().await
    }

    /// Returns the contents of objects in order, several read concurrently. Each has the digest in its name, and the
    /// expected length. For use by event stores.
    ///
    /// # Errors
    ///
    /// The first error. [`PayloadError::Missing`] and [`PayloadError::Corrupt`] name the object.
    pub async fn get_all(&self, objects: Vec<(PayloadName, u64)>) -> Result<Vec<Bytes>, PayloadError> {
        let gets = objects.into_iter().map(|(name, length)| async move {
            let content = self.store.get(&name).await?;
            if content.len() as u64 != length {
                let reason = format!("it has {} bytes instead of {length}", content.len());
                return Err(PayloadError::corrupt(&name, reason));
            }
            name.verified(content)
        });
        stream::iter(gets).buffered(self.concurrency).try_collect().await
    }
}

impl<P: PayloadStore> From<P> for Payloads {
    fn from(store: P) -> Self {
        Self::new(store)
    }
}
