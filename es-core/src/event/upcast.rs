//! Upcasts: conversions of events from earlier schema versions.

use super::{DecodeError, Event, EventData};

/// Converts an event from its previous schema version. Implemented for all types with a matching `From`.
#[diagnostic::on_unimplemented(
    message = "the event `{P}` cannot be upcast to `{Self}`",
    label = "missing `impl From<{P}> for {Self}`",
    note = "write `impl From<{P}> for {Self} {{ fn from(old: {P}) -> Self {{ … }} }}`"
)]
pub trait UpcastFrom<P> {
    /// Converts the event to this version.
    fn upcast_from(previous: P) -> Self;
}

#[diagnostic::do_not_recommend]
impl<P, T: From<P>> UpcastFrom<P> for T {
    fn upcast_from(previous: P) -> Self {
        previous.into()
    }
}

/// Decodes an event that was stored before the version of `T`: decodes it as `P`, the previous version, and upcasts it.
///
/// # Errors
///
/// As [`Event::decode`].
pub fn decode_previous<P: Event, T: UpcastFrom<P>>(stored: &EventData) -> Result<T, DecodeError> {
    let previous = if P::knows(stored.name()) {
        P::decode(stored)
    } else {
        // The event was renamed between the two versions: `T` knows both names, but `P` knows only the first.
        P::decode(&stored.renamed(P::KINDS[0].name()))
    };
    previous.map(T::upcast_from)
}

/// Returns the error of a stored event whose name `T` does not know.
///
/// # Errors
///
/// Always [`DecodeError::UnknownName`] or [`DecodeError::UnknownVersion`].
pub fn unknown_name<T: Event>(stored: &EventData) -> Result<T, DecodeError> {
    Err(DecodeError::unknown_name(stored.name(), T::KINDS))
}

/// Returns the error of a stored event whose version `T` does not support.
///
/// # Errors
///
/// Always [`DecodeError::UnknownName`] or [`DecodeError::UnknownVersion`].
pub fn unknown_version<T: Event>(kind: usize, stored: &EventData) -> Result<T, DecodeError> {
    Err(DecodeError::unknown_version(&T::KINDS[kind], stored.version()))
}
