//! The feed: for each slice a log of pages that refer to commits.
//!
//! The log decides everything. A page is written on the condition that its place is free, and its place is the
//! end of the log as its writer has read it; what it may hold follows from the pages before it. So any number
//! of writers may run at once, on hints that are late, repeated or wrong, and every event is indexed once, in
//! the order of its stream.

mod hint;
mod index;
mod ingest;
mod marks;
mod page;
mod read;
mod record;
mod reference;
mod resolve;
mod settings;
#[cfg(test)]
pub(crate) mod simulation;
mod storage;
mod store;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use hint::Hint;
pub(crate) use index::FeedIndex;
pub(crate) use ingest::Ingest;
pub(crate) use record::{Noted, Record};
pub(crate) use reference::Reference;
#[cfg(test)]
pub(crate) use settings::Settings as FeedSettings;
pub(crate) use storage::{PageQuery, Storage};
pub(crate) use writer::Indexed;
