//! The store on DynamoDB, below the contract: which requests it sends, what it makes of the answers, and what
//! it leaves in the table. What holds for any store is in the conformance suite.

#![cfg(feature = "embedded")]

mod append;
mod attempts;
mod documents;
mod embedded;
mod errors;
mod import;
mod interceptors;
mod parts;
mod read;
mod responses;
mod snapshot;
mod support;
mod table;
#[cfg(feature = "aws")]
mod timeouts;
mod write;
