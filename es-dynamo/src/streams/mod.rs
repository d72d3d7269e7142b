//! Streams: appending and reading commits, snapshots, claims, and idempotency records.

mod append;
mod claims;
pub(crate) mod compression;
pub(crate) mod decode;
pub(crate) mod group;
pub(crate) mod item;
pub(crate) mod lifecycle;
pub(crate) mod objects;
mod read;
mod restore;
pub(crate) mod snapshot;
mod write;
