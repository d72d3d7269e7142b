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
/// Write `#[event]` on a struct for one kind of event, or on an enum for a family in one type; both
/// implement this trait. So does the enum that `#[derive(Aggregate)]` generates from the events it lists.
///
/// # Stored form
///
/// The *stored name* and the *schema version* (together: the [`EventKind`]) and the payload, which is JSON.
/// A name once stored is never taken from the code's layout: moving or renaming modules and crates changes
/// nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "write `#[event]` above the definition of `{Self}`"
)]
pub trait Event: Clone + Debug + PartialEq + Send + Sync + Sized + 'static {
    /// The kinds of event that this type stores, each with the version that it writes.
    const KINDS: &'static [EventKind];

    /// The kind of this value.
    fn kind(&self) -> &'static EventKind;

    /// The payload to store.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the value has no JSON form, for example a map whose keys are not text.
    fn encode(&self) -> Result<String, EncodeError>;

    /// The value of a stored event, brought up to the current schema version when it was written by an
    /// earlier one.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the name or the version is not one of this type's, or the payload does not fit.
    fn decode(stored: &EventData) -> Result<Self, DecodeError>;

    /// Whether events with this stored name decode to this type.
    #[must_use]
    fn knows(name: &str) -> bool {
        Self::KINDS.iter().any(|kind| kind.answers_to(name))
    }

    /// The event as it is stored: its kind and its payload.
    ///
    /// # Errors
    ///
    /// As [`encode`](Event::encode).
    fn to_data(&self) -> Result<EventData, EncodeError> {
        let kind = self.kind();
        Ok(EventData::new(kind.name(), kind.version(), self.encode()?))
    }
}
