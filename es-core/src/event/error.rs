//! Why an event cannot be stored or read.

use super::EventKind;

/// How many characters of a name that is unknown are shown.
const LONGEST_NAME: usize = 100;

/// An event that has no stored form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event `{name}` cannot be stored: {reason}")]
pub struct EncodeError {
    name: String,
    reason: String,
}

impl EncodeError {
    /// The event `name` cannot be stored, because of `reason`, which quotes nothing of the payload.
    #[must_use]
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }
}

/// A stored event that the code cannot read.
///
/// Never quotes the payload, which may be confidential: only the stored name, the version, and the problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No event of the type has this stored name.
    #[error(
        "the event `{name}` is unknown here (known: {known}); add it to the events, or list it as `retired(\"{name}\")`"
    )]
    UnknownName {
        /// The stored name, shortened if it is very long.
        name: String,
        /// The names that are known, separated by commas.
        known: String,
    },
    /// The event is known, but not in this version.
    #[error("the event `{name}` was stored with schema version {version}, this code knows {known}")]
    UnknownVersion {
        /// The stored name.
        name: String,
        /// The schema version that was stored.
        version: u32,
        /// The versions that the code reads, as `1 to 3`.
        known: String,
    },
    /// The payload does not have the form that its name and version promise.
    #[error("the payload of the event `{name}` (schema version {version}) does not fit: {reason}")]
    Malformed {
        /// The stored name.
        name: String,
        /// The schema version that was stored.
        version: u32,
        /// What does not fit, without quoting the payload.
        reason: String,
    },
}

impl DecodeError {
    /// The error for an event `name` that is none of `kinds`.
    #[must_use]
    pub fn unknown_name(name: &str, kinds: &[EventKind]) -> Self {
        let known = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect::<Vec<_>>().join(", ");
        // It could be as long as an item.
        let name = match name.char_indices().nth(LONGEST_NAME) {
            Some((end, _)) => format!("{}…", &name[..end]),
            None => name.to_owned(),
        };
        Self::UnknownName { name, known }
    }

    /// The error for an event of `kind` that was stored with a `version` that the code does not read.
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
