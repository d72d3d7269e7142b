//! Events: the facts that a stream records.

mod data;
mod error;
pub(crate) mod family;
mod json;
pub(crate) mod kind;
pub(crate) mod upcast;

use std::fmt::Debug;

pub use data::{CommitId, EventData, EventId};
pub use error::{DecodeError, EncodeError};
pub(crate) use json::without_values;
pub use json::{decode_json, encode_json};
pub use kind::{EventKind, Field};

/// A type whose values can be stored in a stream: one kind of event, or a family of several.
///
/// `#[event]` implements this trait for a struct, which is one kind of event, or for an enum, which is a family with
/// one kind per variant. `#[derive(Aggregate)]` implements it for the enum of the aggregate's events.
///
/// ```
/// use es_core::prelude::*;
///
/// #[event(name = "MoneyDeposited")]
/// #[derive(PartialEq)]
/// pub struct Deposited { pub cents: u64 }
///
/// let event = Deposited { cents: 500 };
/// let stored = event.to_data()?;
/// assert_eq!(stored.name(), "MoneyDeposited");
/// assert_eq!(Deposited::decode(&stored)?, event);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Stored form
///
/// An event is stored with its *stored name*, its *schema version* (together, the [`EventKind`]), and its payload in
/// JSON. The stored name does not depend on modules or crates, so they can be moved and renamed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "write `#[event]` above the definition of `{Self}`"
)]
pub trait Event: Clone + Debug + PartialEq + Send + Sync + Sized + 'static {
    /// The kinds of events of this type, each with the schema version that is written.
    const KINDS: &'static [EventKind];

    /// Returns the kind of this event.
    fn kind(&self) -> &'static EventKind;

    /// Encodes the payload.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the value cannot be represented in JSON, such as a map whose keys are not strings.
    fn encode(&self) -> Result<String, EncodeError>;

    /// Decodes a stored event, and upcasts it if it has an earlier schema version.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the name or the version is unknown, or the payload does not match the type.
    fn decode(stored: &EventData) -> Result<Self, DecodeError>;

    /// Returns whether events with the stored name `name` decode to this type.
    #[must_use]
    fn knows(name: &str) -> bool {
        Self::KINDS.iter().any(|kind| kind.matches(name))
    }

    /// Returns the stored form of the event.
    ///
    /// # Errors
    ///
    /// As [`encode`](Event::encode).
    fn to_data(&self) -> Result<EventData, EncodeError> {
        let kind = self.kind();
        Ok(EventData::new(kind.name(), kind.version(), self.encode()?))
    }
}
