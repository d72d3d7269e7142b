//! The payload store in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};

use super::{PayloadError, PayloadName, PayloadPrefix, PayloadStore, StoredPayload};
use crate::clock::{Clock, SystemClock};

/// A payload store in memory, for tests. Clones share the same objects.
#[derive(Clone)]
pub struct MemoryPayloads {
    objects: Arc<Mutex<BTreeMap<PayloadName, Object>>>,
    clock: Arc<dyn Clock>,
}

struct Object {
    content: Bytes,
    stored_at: DateTime<Utc>,
}

impl MemoryPayloads {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { objects: Arc::default(), clock: Arc::new(SystemClock) }
    }

    /// Sets the clock that gives each object its time (default: the system's clock).
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Replaces the content of an object, which may not have the digest in its name: to test how damage is handled.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn damage(&self, name: &PayloadName, content: impl Into<Bytes>) {
        if let Some(object) = self.objects().get_mut(name) {
            object.content = content.into();
        }
    }

    /// Returns the names of all objects.
    #[must_use]
    pub fn names(&self) -> Vec<PayloadName> {
        self.objects().keys().cloned().collect()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<PayloadName, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryPayloads {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl PayloadStore for MemoryPayloads {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        let content = name.verified(content)?;
        let mut objects = self.objects();
        if let Some(existing) = objects.get(name) {
            name.verified(existing.content.clone())?;
            return Ok(());
        }
        objects.insert(name.clone(), Object { content, stored_at: self.clock.now() });
        Ok(())
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        let objects = self.objects();
        objects.get(name).map(|object| object.content.clone()).ok_or_else(|| PayloadError::missing(name))
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        self.objects().remove(name);
        Ok(())
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        let objects = self.objects();
        let of_prefix = objects.iter().filter(|(name, _)| name.prefix() == prefix);
        let listed: Vec<_> = of_prefix
            .map(|(name, object)| {
                Ok(StoredPayload::new(name.clone(), object.content.len() as u64, object.stored_at))
            })
            .collect();
        stream::iter(listed).boxed()
    }
}

/// Prints the number of objects, not their content.
impl fmt::Debug for MemoryPayloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPayloads").field("objects", &self.objects().len()).finish_non_exhaustive()
    }
}
