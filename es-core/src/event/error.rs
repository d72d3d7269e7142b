//! Errors of encoding and decoding events.

use super::{EventData, EventKind};

/// The maximum number of characters of an unknown name in an error text.
const MAX_NAME_CHARS: usize = 100;

/// The error of an event that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event `{name}` cannot be stored: {reason}")]
pub struct EncodeError {
    name: String,
    reason: String,
}

impl EncodeError {
    /// Creates the error of the event `name`. The `reason` must not quote the payload, which may be confidential.
    #[must_use]
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }

    /// Creates the error of an encoded event that the code could not decode again.
    pub(crate) fn not_readable(event: &EventData, error: DecodeError) -> Self {
        let reason = match error {
            DecodeError::Malformed { reason, .. } => reason,
            error => error.to_string(),
        };
        let reason = format!(
            "it could not be decoded again ({reason}): use values that JSON can represent, unlike a NaN"
        );
        Self::new(event.name(), reason)
    }
}

/// The error of a stored event that the code cannot decode.
///
/// Its text contains the stored name, the version, and the problem, but never the payload, which may be confidential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No event of the type has the stored name.
    #[error(
        "the event `{name}` is unknown here (known: {known}); add it to the events, or list it as `retired(\"{name}\")`"
    )]
    UnknownName {
        /// The stored name, shortened if it is very long.
        name: String,
        /// The known names, separated by commas.
        known: String,
    },
    /// The event is known, but its schema version is not.
    #[error(
        "the event `{name}` was stored with schema version {version}, but this code supports only {known}"
    )]
    UnknownVersion {
        /// The stored name.
        name: String,
        /// The stored schema version.
        version: u32,
        /// The supported versions, as in `1 to 3`.
        known: String,
    },
    /// The payload does not have the shape of the event's type.
    #[error("the payload of the event `{name}` (schema version {version}) does not match its type: {reason}")]
    Malformed {
        /// The stored name.
        name: String,
        /// The stored schema version.
        version: u32,
        /// The mismatch, without values of the payload.
        reason: String,
    },
}

impl DecodeError {
    /// Creates the error of an event whose `name` is not among `kinds`.
    #[must_use]
    pub fn unknown_name(name: &str, kinds: &[EventKind]) -> Self {
        let known = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect::<Vec<_>>().join(", ");
        // The name may be as long as an item.
        let name = match name.char_indices().nth(MAX_NAME_CHARS) {
            Some((end, _)) => format!("{}…", &name[..end]),
            None => name.to_owned(),
        };
        Self::UnknownName { name, known }
    }

    /// Creates the error of an event of `kind` with an unsupported schema `version`.
    #[must_use]
    pub fn unknown_version(kind: &EventKind, version: u32) -> Self {
        let oldest = kind.versions().last().map_or(kind.version(), EventKind::version);
        let known = if oldest == kind.version() {
            format!("version {}", kind.version())
        } else {
            format!("versions {oldest} to {}", kind.version())
        };
        Self::UnknownVersion { name: kind.name().to_owned(), version, known }
    }
}
