//! Envelopes: the published messages.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::event::{EventData, EventId};
use crate::feed::Position;
use crate::projection::{BoxError, EventContext};
use crate::stream_id::StreamId;

/// A message for one event, with what a broker needs to route and deduplicate it. Clones share the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    stream: StreamId,
    id: EventId,
    position: Position,
    name: String,
    content_type: Cow<'static, str>,
    body: Arc<[u8]>,
}

impl Envelope {
    /// Creates the envelope of an event. `body` is the message, of the media type `content_type`.
    #[must_use]
    pub fn new(
        event: &EventData,
        ctx: &EventContext,
        content_type: impl Into<Cow<'static, str>>,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            stream: ctx.stream().clone(),
            id: ctx.event_id(),
            position: ctx.position(),
            name: event.name().to_owned(),
            content_type: content_type.into(),
            body: body.into().into(),
        }
    }

    /// Returns the stream of the event, the partition key for a broker: only the order within a stream is
    /// preserved.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the event id, by which consumers deduplicate.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Returns the position of the event in its slice of the feed, or [`Position::NONE`] if it does not come from
    /// the feed.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the stored name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the media type of the message.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// Returns the message.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Prints the length of the message, not its content, which may be confidential.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("stream", &self.stream)
            .field("id", &self.id)
            .field("name", &self.name)
            .field("content_type", &self.content_type)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// Encodes events as envelopes. Implemented by [`CloudEvents`](super::CloudEvents) and by functions.
///
/// ```
/// use es_core::publish::{Envelope, Envelopes};
/// use es_core::event::EventData;
/// use es_core::{BoxError, EventContext};
///
/// /// Publishes the stored payload without an envelope.
/// fn bare(event: &EventData, ctx: &EventContext) -> Result<Envelope, BoxError> {
///     Ok(Envelope::new(event, ctx, "application/json", event.payload()))
/// }
/// # fn takes(_: impl Envelopes) {}
/// # takes(bare);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot encode events as envelopes",
    label = "does not implement `Envelopes`",
    note = "pass `CloudEvents::source(\"https://…\")?`, or a function `fn(&EventData, &EventContext) -> Result<Envelope, BoxError>`"
)]
pub trait Envelopes: Send + Sync + 'static {
    /// Returns the envelope of `event`.
    ///
    /// # Errors
    ///
    /// Any error if the event cannot be encoded. It is handled like any other failure of a projection.
    fn envelope(&self, event: &EventData, ctx: &EventContext) -> Result<Envelope, BoxError>;
}

impl<F> Envelopes for F
where
    F: Fn(&EventData, &EventContext) -> Result<Envelope, BoxError> + Send + Sync + 'static,
{
    fn envelope(&self, event: &EventData, ctx: &EventContext) -> Result<Envelope, BoxError> {
        self(event, ctx)
    }
}
