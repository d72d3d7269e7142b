//! The log of a slice: pages that refer to commits.
//!
//! The log decides everything. A page is written on the condition that its place is free, and its place is the end of
//! the log as its writer has read it; its content follows from the pages before it. So any number of writers may run at
//! once, on hints that are late, repeated, or wrong, and every event is indexed once, in the order of its stream.
//!
//! Nothing here sends requests: what the log needs of the table is the trait [`Storage`](storage::Storage).

pub(crate) mod hint;
pub(crate) mod index;
pub(crate) mod marks;
pub(crate) mod page;
pub(crate) mod reference;
pub(crate) mod settings;
#[cfg(test)]
pub(crate) mod simulation;
pub(crate) mod storage;
pub(crate) mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod writer;
