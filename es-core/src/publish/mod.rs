//! Publishing events to other systems through a broker.
//!
//! This is a transactional outbox: a committed event is in the feed, from which a [`Publishing`] hands it to a
//! [`Publisher`]. A [`Projector`](crate::Projector) runs it like any other projection. Commands do not wait for
//! the broker, and no event can be lost or published without having been committed.
//!
//! # Guarantees
//!
//! - Every event is published at least once. A repeated event has the same [`id`](Envelope::id), by which
//!   consumers deduplicate.
//! - The events of one stream are accepted in the order of their versions: an event is sent only after all earlier
//!   ones were accepted. An event whose outcome was unknown may be repeated later, never earlier.
//! - The order of events of different streams is not guaranteed.

mod cloud_events;
mod envelope;
mod outbox;
mod publishing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use cloud_events::{CloudEvents, InvalidCloudEvents};
pub use envelope::{Envelope, Envelopes};
pub use outbox::{Outbox, Unpublished};
pub use publishing::Publishing;

use crate::keys::short_name;
use crate::projection::BoxError;

/// Sends envelopes to a broker.
///
/// # Order
///
/// A batch contains at most one envelope of each stream, so that a broker that rejects part of a request cannot
/// change the order within a stream. The next envelope of a stream is sent in a later batch, after this one was
/// accepted.
///
/// # Errors
///
/// Only failed envelopes are sent again, after a delay. A publisher does not need to retry.
///
/// ```
/// use std::sync::Mutex;
/// use es_core::publish::{BatchLimits, Envelope, PublishError, Publisher};
///
/// /// Collects the messages.
/// #[derive(Debug, Default)]
/// struct Kept(Mutex<Vec<Envelope>>);
///
/// #[async_trait::async_trait]
/// impl Publisher for Kept {
///     fn limits(&self) -> BatchLimits {
///         BatchLimits::default().envelopes(10)
///     }
///
///     async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
///         let mut kept = self.0.lock().map_err(|_| PublishError::permanent("a thread has panicked"))?;
///         kept.extend_from_slice(batch);
///         Ok(vec![Ok(()); batch.len()])
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a publisher",
    label = "not a publisher",
    note = "use one of `es_dynamo::publishers`, or implement `Publisher` for `{Self}`: the limits of a batch, and `publish`"
)]
#[async_trait]
pub trait Publisher: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the messaging system for metrics and spans, such as `kafka` or `aws_kinesis` (default: the
    /// name of the type).
    fn system(&self) -> &str {
        short_name::<Self>()
    }

    /// Returns the limits of the broker for one batch.
    fn limits(&self) -> BatchLimits;

    /// Returns the size of an envelope in bytes, as it counts toward the [`limits`](Self::limits) (default: the length
    /// of its body).
    fn size(&self, envelope: &Envelope) -> usize {
        envelope.body().len()
    }

    /// Sends a batch that is within the [`limits`](Self::limits). Returns for each envelope, in order, whether the
    /// broker accepted it.
    ///
    /// # Errors
    ///
    /// [`PublishError`] for an envelope that was not accepted, and for the whole batch if no envelope was accepted
    /// or if the outcome is unknown.
    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError>;
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Publisher + ?Sized> Publisher for Arc<P> {
    fn system(&self) -> &str {
        (**self).system()
    }

    fn limits(&self) -> BatchLimits {
        (**self).limits()
    }

    fn size(&self, envelope: &Envelope) -> usize {
        (**self).size(envelope)
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        (**self).publish(batch).await
    }
}

/// The limits of a broker for one batch.
///
/// ```
/// use es_core::publish::BatchLimits;
///
/// let limits = BatchLimits::default().envelopes(10).bytes(256 * 1024).envelope_bytes(256 * 1024);
/// assert_eq!(limits.envelopes, 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchLimits {
    /// The maximum number of envelopes in a batch.
    pub envelopes: usize,
    /// The maximum size of a batch in bytes.
    pub bytes: usize,
    /// The maximum size of one envelope in bytes.
    pub envelope_bytes: usize,
}

impl Default for BatchLimits {
    /// Returns limits of 100 envelopes per batch, and of 1 MiB per batch and per envelope.
    fn default() -> Self {
        Self { envelopes: 100, bytes: 1 << 20, envelope_bytes: 1 << 20 }
    }
}

impl BatchLimits {
    /// Sets the maximum number of envelopes in a batch (default: 100, at least 1).
    #[must_use]
    pub fn envelopes(mut self, count: usize) -> Self {
        self.envelopes = count.max(1);
        self
    }

    /// Sets the maximum size of a batch in bytes (default: 1 MiB).
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets the maximum size of one envelope in bytes (default: 1 MiB).
    #[must_use]
    pub fn envelope_bytes(mut self, bytes: usize) -> Self {
        self.envelope_bytes = bytes;
        self
    }
}

/// The error of a broker that did not accept an envelope or a batch.
#[derive(Clone, Debug)]
pub struct PublishError {
    cause: Arc<BoxError>,
    transient: bool,
}

impl PublishError {
    /// Creates an error for an envelope that may be accepted later, or whose outcome is unknown. Use it for
    /// throttling, outages, expired credentials, and missing permissions.
    #[must_use]
    pub fn transient(cause: impl Into<BoxError>) -> Self {
        Self { cause: Arc::new(cause.into()), transient: true }
    }

    /// Creates an error for an envelope that the broker will never accept in its current form.
    #[must_use]
    pub fn permanent(cause: impl Into<BoxError>) -> Self {
        Self { cause: Arc::new(cause.into()), transient: false }
    }

    /// Returns whether a retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for PublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}
