//! What is sent for an event.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::event::{EventData, EventId};
use crate::feed::Position;
use crate::projection::{BoxError, EventContext};
use crate::stream_id::StreamId;

/// What is sent for an event: a message, and what a broker has to know of it. A clone shares the body.
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
    /// Creates the envelope of an event, with `body` as its message, which is of the media type `content_type`.
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

    /// Returns the stream: what a broker partitions by, since the order of its events is kept.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Identifies the event: what to deduplicate by.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Returns the position of the event in its slice of the feed; [`Position::NONE`] if it does not come from the
    /// feed.
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

/// Shows the length of the message, not its content: it may be confidential.
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

/// Makes the envelope of an event: [`CloudEvents`](super::CloudEvents), or a function.
///
/// ```
/// use es_core::publish::{Envelope, Envelopes};
/// use es_core::{BoxError, EventContext, EventData};
///
/// /// The payload as it is stored, and nothing else.
/// fn bare(event: &EventData, ctx: &EventContext) -> Result<Envelope, BoxError> {
///     Ok(Envelope::new(event, ctx, "application/json", event.payload()))
/// }
/// # fn takes(_: impl Envelopes) {}
/// # takes(bare);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make envelopes",
    label = "makes no envelopes",
    note = "give `CloudEvents::source(\"https://…\")?`, or a function `fn(&EventData, &EventContext) -> Result<Envelope, BoxError>`"
)]
pub trait Envelopes: Send + Sync + 'static {
    /// Returns the envelope of `event`.
    ///
    /// # Errors
    ///
    /// When the event cannot be put into one. It is handled as any event that fails.
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
