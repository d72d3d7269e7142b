//! The contract of a store of large objects, and implementations in memory and in a directory.
//!
//! A *payload* is an immutable object, such as an event that does not fit into an item of the event store, or the
//! archive of a stream. It has a [`PayloadName`], which contains the digest of its content.
//!
//! ```
//! use es_core::payloads::{MemoryPayloads, PayloadName, PayloadPrefix, PayloadStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let payloads = MemoryPayloads::new();
//! let name = PayloadName::of(PayloadPrefix::new("orders/archives")?, b"content");
//! payloads.put(&name, "content".into()).await?;
//!
//! let content = name.verified(payloads.get(&name).await?)?;
//! assert_eq!(content, "content");
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "tokio")]
mod directory;
mod error;
mod memory;
mod name;
mod settings;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_core::stream::BoxStream;

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use directory::DirectoryPayloads;
pub use error::PayloadError;
pub use memory::MemoryPayloads;
pub use name::{InvalidPayloadName, PayloadName, PayloadPrefix};
pub use settings::Payloads;

/// A store of immutable objects, which are named by the digest of their content.
///
/// The conformance suite checks the contract for any implementation.
#[async_trait]
pub trait PayloadStore: fmt::Debug + Send + Sync + 'static {
    /// Stores `content` under `name`, whose digest it must have.
    ///
    /// # Atomicity
    ///
    /// A reader sees the whole object, or none. The object is durable when this method returns.
    ///
    /// # Idempotency
    ///
    /// An existing object is never overwritten: the call succeeds if it has the same content. Storing an object again
    /// is therefore safe at any time, also after [`PayloadError::Unavailable`], and by several writers at once.
    ///
    /// # Errors
    ///
    /// [`PayloadError::Corrupt`] if `content` or an existing object does not have the digest in the name.
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError>;

    /// Returns the content of an object. Every object that was stored before the call is found.
    ///
    /// The content is not verified: callers must call [`PayloadName::verified`].
    ///
    /// # Errors
    ///
    /// [`PayloadError::Missing`] if there is no such object.
    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError>;

    /// Deletes an object. Succeeds if there is no such object, so that a deletion can be repeated.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if the object cannot be deleted.
    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError>;

    /// Lists the objects with a prefix, in any order. Objects with a longer prefix, and objects that are not named by a
    /// digest, are not listed. An object that is stored or deleted during the listing may be included or not.
    ///
    /// # Errors
    ///
    /// The listing ends with the first error.
    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>>;
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredPayload {
    /// The name of the object.
    pub name: PayloadName,
    /// The length of the content in bytes.
    pub length: u64,
    /// When the object was stored, by the clock of the store.
    pub stored_at: DateTime<Utc>,
}

impl StoredPayload {
    /// Returns an object of `length` bytes that was stored at `stored_at`.
    #[must_use]
    pub fn new(name: PayloadName, length: u64, stored_at: DateTime<Utc>) -> Self {
        Self { name, length, stored_at }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: PayloadStore + ?Sized> PayloadStore for Arc<P> {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        (**self).put(name, content).await
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        (**self).get(name).await
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        (**self).delete(name).await
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        (**self).list(prefix)
    }
}
