//! Storing objects.

use std::sync::Arc;

use es_core::bytes::Bytes;
use es_core::payloads::{PayloadError, PayloadName, PayloadStore};
use futures_util::TryStreamExt;
use futures_util::future::join_all;

use super::{content, is_missing, new_prefix, stored};
use crate::conformance::Pattern;

/// Objects of every size read back as they were written.
pub async fn an_object_reads_back_as_it_was_written(payloads: Arc<dyn PayloadStore>) {
    let prefix = new_prefix();
    let large = Bytes::from(Pattern { seed: 1, bytes: 9 << 20 }.payload());
    let binary = Bytes::from_iter((0..=255).cycle().take(100_000));
    for written in [Bytes::new(), "a".into(), binary, large] {
        let name = PayloadName::of(prefix.clone(), &written);
        payloads.put(&name, written.clone()).await.expect("stores");
        assert!(content(&*payloads, &name).await == written, "{} bytes have changed", written.len());
    }
}

/// Storing an object again succeeds, and changes nothing.
pub async fn a_repeated_put_changes_nothing(payloads: Arc<dyn PayloadStore>) {
    let name = stored(&*payloads, "content").await;
    let listed = async || payloads.list(name.prefix()).try_collect::<Vec<_>>().await.expect("lists");
    let before = listed().await;
    for _ in 0..2 {
        payloads.put(&name, "content".into()).await.expect("succeeds again");
    }
    assert_eq!(listed().await, before);
    assert_eq!(content(&*payloads, &name).await, "content");
}

/// Content that does not have the digest in the name is not stored, and does not replace the object.
pub async fn other_content_is_refused(payloads: Arc<dyn PayloadStore>) {
    let name = PayloadName::of(new_prefix(), b"content");
    for other in ["Content", "conten", ""] {
        let error = payloads.put(&name, other.into()).await.expect_err("other content");
        assert!(matches!(&error, PayloadError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(&name.to_string()), "{error}");
    }
    is_missing(&*payloads, &name).await;
    payloads.put(&name, "content".into()).await.expect("stores");
    payloads.put(&name, "other".into()).await.expect_err("other content");
    assert_eq!(content(&*payloads, &name).await, "content");
}

/// Objects with different prefixes or generations are different objects.
pub async fn names_are_kept_apart(payloads: Arc<dyn PayloadStore>) {
    let first = stored(&*payloads, "content").await;
    let others = [first.next_generation(), PayloadName::of(new_prefix(), b"content")];
    for name in &others {
        is_missing(&*payloads, name).await;
        payloads.put(name, "content".into()).await.expect("stores");
    }
    payloads.delete(&first).await.expect("deletes");
    is_missing(&*payloads, &first).await;
    for name in &others {
        assert_eq!(content(&*payloads, name).await, "content");
    }
}

/// Of many writers of one object, all succeed, and no reader sees a part of it.
pub async fn many_writers_of_one_object_succeed(payloads: Arc<dyn PayloadStore>) {
    let written = Bytes::from(Pattern { seed: 2, bytes: 1 << 20 }.payload());
    let name = PayloadName::of(new_prefix(), &written);
    let writers = (0..8).map(|_| {
        let (payloads, name, written) = (Arc::clone(&payloads), name.clone(), written.clone());
        tokio::spawn(async move {
            match payloads.get(&name).await {
                Ok(early) => assert!(early == written, "an incomplete object was visible"),
                Err(error) => assert!(matches!(error, PayloadError::Missing { .. }), "{error:?}"),
            }
            payloads.put(&name, written.clone()).await.expect("stores");
            assert!(content(&*payloads, &name).await == written);
        })
    });
    for writer in join_all(writers).await {
        writer.expect("does not panic");
    }
}
