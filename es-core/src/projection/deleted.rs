//! The event that tells projections and processes of a deleted stream.

use crate::event::{DecodeError, EncodeError, Event, EventData, EventKind};
use crate::store::DELETED;

/// A stream was [deleted](crate::Repository::delete): the last event of the stream, which the framework records.
///
/// List it among the events of an aggregate to remove the rows of deleted streams, or to tell other systems. Its stream
/// is in the [context](crate::EventContext::stream). It is handled like any other event: in order, at least once, and
/// also in a rebuild, in which the other events of the stream are passed over.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::projection::StreamDeleted;
/// # #[event]
/// # pub struct Opened { pub owner: String }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "account", id = String, events(Opened))]
/// # pub struct Account;
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn opened(&mut self, _: &Opened) {}
/// # }
///
/// #[derive(Clone, Debug, PartialEq, Row, serde::Serialize, serde::Deserialize)]
/// #[row(name = "owners", key = account)]
/// struct Owner { account: String, owner: String }
///
/// #[derive(Clone, Projection)]
/// #[projection(name = "owners", events(Account(Opened, StreamDeleted)))]
/// struct Owners { #[read_model] owners: ReadModel<Owner> }
///
/// #[handlers]
/// impl Owners {
///     #[project]
///     async fn opened(&mut self, event: &Opened, ctx: &EventContext) -> Result<(), BoxError> {
///         let owner = Owner { account: ctx.id().to_owned(), owner: event.owner.clone() };
///         Ok(self.owners.put(owner)?)
///     }
///
///     #[project]
///     async fn deleted(&mut self, _: &StreamDeleted, ctx: &EventContext) -> Result<(), BoxError> {
///         Ok(self.owners.delete(ctx.id())?)
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamDeleted {}

impl StreamDeleted {
    /// Returns the event, for tests of projections.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }
}

impl Event for StreamDeleted {
    const KINDS: &'static [EventKind] = &[EventKind::new(DELETED, 1)];

    fn kind(&self) -> &'static EventKind {
        &Self::KINDS[0]
    }

    fn encode(&self) -> Result<String, EncodeError> {
        Ok("{}".to_owned())
    }

    fn decode(stored: &EventData) -> Result<Self, DecodeError> {
        match stored.name() == DELETED {
            true => Ok(Self {}),
            false => Err(DecodeError::unknown_name(stored.name(), Self::KINDS)),
        }
    }
}
