//! Failures of SQLite, with messages that say what to do.
//!
//! The engine reports failures as messages. The messages of SQLite are part of its interface
//! ([result codes](https://www.sqlite.org/rescode.html)); the engine adds three.

use std::fmt;
use std::path::Path;

use dynoxide::DynoxideError;
use es_core::StoreError;

/// A failure of SQLite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Full,
    Damaged,
    NotADatabase,
    ReadOnly,
    CannotOpen,
    Locked,
    Io,
    Other,
}

/// The kinds, by the messages of SQLite and of the engine.
const TEXTS: [(&str, Kind); 11] = [
    ("database or disk is full", Kind::Full),
    ("database disk image is malformed", Kind::Damaged),
    ("file is not a database", Kind::NotADatabase),
    ("not a valid database", Kind::NotADatabase),
    ("not a valid SQLite database", Kind::NotADatabase),
    ("attempt to write a readonly database", Kind::ReadOnly),
    ("access permission denied", Kind::ReadOnly),
    ("unable to open database file", Kind::CannotOpen),
    ("is locked", Kind::Locked),
    ("disk I/O error", Kind::Io),
    ("backend: I/O error", Kind::Io),
];

impl Failure {
    pub(crate) fn of(message: &str) -> Self {
        let found = TEXTS.iter().find(|(text, _)| message.contains(text));
        let kind = found.map_or(Kind::Other, |(_, kind)| *kind);
        // The engine's message recommends features that this crate does not have.
        let message = match kind {
            Kind::NotADatabase => "file is not a database".to_owned(),
            _ => message.to_owned(),
        };
        Self { kind, message }
    }

    /// Returns whether the request may succeed later without a repair. A write with such a failure may have reached the
    /// disk.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.kind, Kind::Locked | Kind::Io | Kind::Other)
    }

    pub(crate) fn into_store_error(self) -> StoreError {
        match self.is_transient() {
            true => StoreError::unavailable(self),
            false => StoreError::Backend(self.into()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.kind {
            Kind::Full => "the disk of the embedded engine is full: free space, then continue",
            Kind::Damaged | Kind::NotADatabase => {
                "the file of the embedded engine is damaged: restore it from a backup"
            }
            Kind::ReadOnly => {
                "the file of the embedded engine is read-only: grant write access to it and to its directory"
            }
            Kind::CannotOpen => {
                "the file of the embedded engine cannot be opened: check that its directory exists and is accessible"
            }
            Kind::Locked => "another process holds the lock on the file of the embedded engine",
            Kind::Io => "the file of the embedded engine cannot be read or written: check the disk",
            Kind::Other => "the embedded engine failed",
        };
        write!(f, "{advice} ({})", self.message)
    }
}

impl std::error::Error for Failure {}

/// Returns the error for a file that could not be opened.
pub(crate) fn open_error(path: &Path, error: &DynoxideError) -> StoreError {
    let failure = Failure::of(&error.to_string());
    let path = path.display();
    let reason = match failure.kind {
        Kind::NotADatabase => format!(
            "the file {path} is not a database of the embedded engine: choose another file, or restore it from a backup"
        ),
        Kind::ReadOnly => {
            format!("the file {path} is read-only: grant write access to it and to its directory")
        }
        Kind::CannotOpen => format!(
            "the file {path} cannot be opened: check that its directory exists, and that it is an accessible file"
        ),
        Kind::Locked => {
            format!("the file {path} is locked by another program: close it there, or choose another file")
        }
        Kind::Full | Kind::Damaged | Kind::Io | Kind::Other => return StoreError::Backend(failure.into()),
    };
    StoreError::setup(reason, Some(failure.message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_transient_or_permanent() {
        for (message, is_transient) in [
            ("backend: database or disk is full", false),
            ("backend: database disk image is malformed", false),
            ("backend: not a valid database", false),
            ("backend: attempt to write a readonly database", false),
            ("backend: unable to open database file", false),
            ("backend: database is locked or busy", true),
            ("backend: I/O error: disk I/O error", true),
            ("backend: something else", true),
        ] {
            let failure = Failure::of(message);
            assert_eq!(failure.is_transient(), is_transient, "{message}");
            let error = failure.clone().into_store_error();
            assert_eq!(matches!(error, StoreError::Unavailable(_)), is_transient, "{error:?}");
            assert!(!failure.to_string().contains("feature"), "{failure}");
        }
    }
}
