//! Rules of payload stores.

pub mod delete;
pub mod get;
pub mod listing;
pub mod put;

use es_core::bytes::Bytes;
use es_core::payloads::{PayloadName, PayloadPrefix, PayloadStore};
use uuid::Uuid;

/// Returns a new prefix, which no other test uses.
fn new_prefix() -> PayloadPrefix {
    PayloadPrefix::new(&format!("conformance/{}", Uuid::new_v4())).expect("valid")
}

/// Stores an object with a new prefix, and returns its name.
async fn stored(payloads: &dyn PayloadStore, content: &'static str) -> PayloadName {
    let name = PayloadName::of(new_prefix(), content.as_bytes());
    payloads.put(&name, content.into()).await.expect("stores");
    name
}

/// Returns the verified content of an object.
async fn content(payloads: &dyn PayloadStore, name: &PayloadName) -> Bytes {
    let content = payloads.get(name).await.expect("the object is there");
    name.verified(content).expect("has its content")
}

/// Expects that an object does not exist.
async fn is_missing(payloads: &dyn PayloadStore, name: &PayloadName) {
    let error = payloads.get(name).await.expect_err("there is no such object");
    assert!(matches!(&error, es_core::payloads::PayloadError::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains(&name.to_string()), "{error}");
}
