//! What can go wrong in publishing.

use std::fmt;
use std::sync::Arc;

use super::Envelope;
use crate::event::EventId;
use crate::feed::Position;
use crate::projection::BoxError;
use crate::stream_id::StreamId;

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

    /// Whether it is worth trying again.
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

/// That an event was not published, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the event `{name}` at version {} of `{stream}` was not published: {cause}", .id.version())]
#[non_exhaustive]
pub struct Unpublished {
    /// The event's stream.
    pub stream: StreamId,
    /// The event.
    pub id: EventId,
    /// The event's stored name.
    pub name: String,
    /// The event's position in its slice of the feed.
    pub position: Position,
    /// Why.
    pub cause: PublishError,
}

impl Unpublished {
    pub(super) fn new(envelope: &Envelope, cause: PublishError) -> Self {
        Self {
            stream: envelope.stream().clone(),
            id: envelope.id(),
            name: envelope.name().to_owned(),
            position: envelope.position(),
            cause,
        }
    }

    /// That the envelope takes `bytes`, and the broker takes `limit`.
    pub(super) fn too_large(envelope: &Envelope, bytes: usize, limit: usize) -> Self {
        let reason = format!("it takes {bytes} bytes as a message, and the broker takes {limit}");
        Self::new(envelope, PublishError::permanent(reason))
    }
}
