//! Publishing: events for others, through a broker.
//!
//! A committed event is its own outbox: what is stored is in the feed, and a [`Publishing`], run by a
//! [`Projector`](crate::Projector) as any projection, hands it to a [`Publisher`]. No command waits for a
//! broker, and none is lost or invented between the two.
//!
//! # What is guaranteed
//!
//! - Every event is published at least once, and one that is repeated has the same
//!   [`id`](Envelope::id): consumers deduplicate by it.
//! - The events of one stream are accepted in the order of their versions: none is sent before all earlier ones
//!   were accepted. What is repeated after an outcome that stayed unknown comes later than the first time, never
//!   earlier.
//! - Nothing is guaranteed about events of different streams.

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

use crate::projection::BoxError;

/// Sends envelopes to a broker.
///
/// # Order
///
/// A batch holds at most one envelope of each stream, so that a broker which refuses a part of a request cannot
/// change the order within a stream. The next one comes in a later batch, after this one was accepted.
///
/// # Errors
///
/// What failed is sent again, after some time, and only that. A publisher does not have to repeat anything.
///
/// ```
/// use std::sync::Mutex;
/// use es_core::publish::{BatchLimits, Envelope, PublishError, Publisher};
///
/// /// Keeps what it gets.
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
#[async_trait]
pub trait Publisher: fmt::Debug + Send + Sync + 'static {
    /// Returns how much the broker takes at once.
    fn limits(&self) -> BatchLimits;

    /// Returns how many bytes an envelope counts for [`limits`](Self::limits): those of its body, if nothing is said.
    fn size(&self, envelope: &Envelope) -> usize {
        envelope.body().len()
    }

    /// Sends a batch, which is within the [`limits`](Self::limits); reports of each envelope, in order, whether
    /// the broker has accepted it.
    ///
    /// # Errors
    ///
    /// [`PublishError`] of one envelope when it was not accepted; of the whole when none was, or nothing is known.
    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError>;
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Publisher + ?Sized> Publisher for Arc<P> {
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

/// How much a broker takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchLimits {
    /// The most envelopes in a batch.
    pub envelopes: usize,
    /// The most bytes in a batch.
    pub bytes: usize,
    /// The most bytes of one envelope.
    pub envelope_bytes: usize,
}

impl Default for BatchLimits {
    /// 100 envelopes; 1 MiB for them together, and for each.
    fn default() -> Self {
        Self { envelopes: 100, bytes: 1 << 20, envelope_bytes: 1 << 20 }
    }
}

impl BatchLimits {
    /// At most `count` envelopes, and at least one.
    #[must_use]
    pub fn envelopes(mut self, count: usize) -> Self {
        self.envelopes = count.max(1);
        self
    }

    /// At most `bytes` in a batch.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// At most `bytes` for one envelope.
    #[must_use]
    pub fn envelope_bytes(mut self, bytes: usize) -> Self {
        self.envelope_bytes = bytes;
        self
    }
}

/// Why a broker has not accepted an envelope, or a batch.
#[derive(Clone, Debug)]
pub struct PublishError {
    cause: Arc<BoxError>,
    transient: bool,
}

impl PublishError {
    /// Creates an error for an envelope that may be accepted later, or whose outcome is unknown. Throttling, an outage,
    /// expired credentials and missing permissions are transient.
    #[must_use]
    pub fn transient(cause: impl Into<BoxError>) -> Self {
        Self { cause: Arc::new(cause.into()), transient: true }
    }

    /// Creates an error for an envelope that the broker never accepts as it is.
    #[must_use]
    pub fn permanent(cause: impl Into<BoxError>) -> Self {
        Self { cause: Arc::new(cause.into()), transient: false }
    }

    /// Returns whether it is worth trying again.
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
