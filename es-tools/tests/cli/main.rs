//! The binary `es` as a process, on embedded files.

mod feed;
mod projections;
mod reference;
mod streams;
mod support;
mod table;
