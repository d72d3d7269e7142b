//! The binary `es` as a process, on embedded files.

#[cfg(feature = "explorer")]
mod explorer;
mod feed;
mod projections;
mod reference;
mod streams;
mod support;
mod table;
