//! The binary `es` as a process, on embedded files and on PostgreSQL.

mod copy;
mod errors;
#[cfg(feature = "explorer")]
mod explorer;
mod feed;
mod payloads;
#[cfg(feature = "explorer")]
mod personal;
#[cfg(feature = "postgres")]
mod postgres;
mod process;
mod projections;
mod reference;
#[cfg(feature = "s3")]
mod s3;
mod streams;
mod support;
mod table;
