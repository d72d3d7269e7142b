//! The store on DynamoDB, below the contract: its requests, the meaning of the responses, and the stored items. The
//! rules for all stores are in the conformance suite.

#![cfg(feature = "embedded")]

mod append;
mod archive;
mod attempts;
mod compression;
mod confused;
mod documents;
mod embedded;
mod errors;
mod group;
mod import;
mod interceptors;
mod lifecycle;
mod parts;
mod read;
mod responses;
mod snapshot;
mod splits;
mod support;
mod table;
#[cfg(feature = "aws")]
mod timeouts;
mod write;
