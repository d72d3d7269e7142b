//! The log of a slice: pages that refer to commits.
//!
//! The log is authoritative. A page is written on the condition that its position is free. Its position is the end of
//! the log as its writer has read it, and its content follows from the pages before it. Therefore, any number of
//! writers may run at once, with hints that are late, repeated, or wrong, and every event is indexed once, in the order
//! of its stream.
//!
//! This module sends no requests. The trait [`Storage`](storage::Storage) defines the operations that it needs.

pub(crate) mod hint;
pub(crate) mod index;
pub(crate) mod marks;
pub(crate) mod page;
pub(crate) mod reference;
pub(crate) mod settings;
#[cfg(test)]
pub(crate) mod simulation;
#[cfg(test)]
mod splits;
pub(crate) mod storage;
pub(crate) mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod writer;
