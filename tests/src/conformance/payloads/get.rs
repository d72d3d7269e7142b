//! Reading objects.

use std::sync::Arc;

use es_core::payloads::{PayloadName, PayloadStore};
use es_core::{StoreError, error_text};

use super::{is_missing, new_prefix};

/// A missing object is an error that names it. For the event store, its data is corrupt.
pub async fn a_missing_object_is_named(payloads: Arc<dyn PayloadStore>) {
    let name = PayloadName::of(new_prefix(), b"never stored");
    is_missing(&*payloads, &name).await;
    let error = StoreError::from(payloads.get(&name).await.expect_err("is missing"));
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error_text(&error).contains(&name.to_string()), "{error}");
}
