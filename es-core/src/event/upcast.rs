//! Bringing events of earlier versions up to date.

use super::{DecodeError, Event, EventData};

/// How an event of an earlier version becomes the event of the next one: through `From`.
#[diagnostic::on_unimplemented(
    message = "the event `{P}` cannot be upcast to `{Self}`",
    label = "missing `impl From<{P}> for {Self}`",
    note = "write `impl From<{P}> for {Self} {{ fn from(old: {P}) -> Self {{ … }} }}`"
)]
pub trait UpcastFrom<P> {
    /// The event as this version has it.
    fn upcast_from(previous: P) -> Self;
}

#[diagnostic::do_not_recommend]
impl<P, T: From<P>> UpcastFrom<P> for T {
    fn upcast_from(previous: P) -> Self {
        previous.into()
    }
}

/// The value of an event that was stored before the version of `T`: read as `P`, the version before it.
///
/// # Errors
///
/// As [`Event::decode`].
pub fn decode_previous<P: Event, T: UpcastFrom<P>>(stored: &EventData) -> Result<T, DecodeError> {
    let previous = if P::knows(stored.name()) {
        P::decode(stored)
    } else {
        // The event was renamed after this version and before the next: `T` knows both names, `P` its own.
        P::decode(&stored.renamed(P::KINDS[0].name()))
    };
    previous.map(T::upcast_from)
}

/// The error for a stored event that `T` does not know.
///
/// # Errors
///
/// Always.
pub fn unknown_name<T: Event>(stored: &EventData) -> Result<T, DecodeError> {
    Err(DecodeError::unknown_name(stored.name(), T::KINDS))
}

/// The error for a stored event of a version that `T` does not read.
///
/// # Errors
///
/// Always.
pub fn unknown_version<T: Event>(kind: usize, stored: &EventData) -> Result<T, DecodeError> {
    Err(DecodeError::unknown_version(&T::KINDS[kind], stored.version()))
}
