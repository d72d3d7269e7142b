//! Deleting objects.

use std::sync::Arc;

use es_core::payloads::{PayloadName, PayloadStore};
use futures_util::TryStreamExt;

use super::{content, is_missing, new_prefix, stored};

/// A deleted object is neither found nor listed.
pub async fn a_deleted_object_is_gone(payloads: Arc<dyn PayloadStore>) {
    let name = stored(&*payloads, "content").await;
    payloads.delete(&name).await.expect("deletes");
    is_missing(&*payloads, &name).await;
    let listed: Vec<_> = payloads.list(name.prefix()).try_collect().await.expect("lists");
    assert!(listed.is_empty(), "{listed:?}");
}

/// A deletion can be repeated, and an object that never existed can be deleted.
pub async fn a_deletion_can_be_repeated(payloads: Arc<dyn PayloadStore>) {
    let name = stored(&*payloads, "content").await;
    for _ in 0..2 {
        payloads.delete(&name).await.expect("deletes");
    }
    payloads.delete(&PayloadName::of(new_prefix(), b"never stored")).await.expect("succeeds");
}

/// A deleted object can be stored again.
pub async fn a_deleted_object_can_be_stored_again(payloads: Arc<dyn PayloadStore>) {
    let name = stored(&*payloads, "content").await;
    payloads.delete(&name).await.expect("deletes");
    payloads.put(&name, "content".into()).await.expect("stores");
    assert_eq!(content(&*payloads, &name).await, "content");
}
