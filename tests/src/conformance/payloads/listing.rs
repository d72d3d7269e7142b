//! Listing objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use es_core::bytes::Bytes;
use es_core::chrono::{TimeDelta, Utc};
use es_core::payloads::{PayloadName, PayloadPrefix, PayloadStore};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::new_prefix;

/// A prefix without objects has an empty list.
pub async fn an_unknown_prefix_is_empty(payloads: Arc<dyn PayloadStore>) {
    let listed: Vec<_> = payloads.list(&new_prefix()).try_collect().await.expect("lists");
    assert!(listed.is_empty(), "{listed:?}");
}

/// The objects of a prefix are listed with their lengths and times. Those of longer and of similar prefixes are not.
pub async fn the_objects_of_a_prefix_are_listed(payloads: Arc<dyn PayloadStore>) {
    let prefix = new_prefix();
    let other = |suffix| PayloadPrefix::new(&format!("{prefix}{suffix}")).expect("valid");
    let contents = ["", "a", "content"];
    for prefix in [prefix.clone(), other("/archives"), other("-2")] {
        for content in contents {
            let name = PayloadName::of(prefix.clone(), content.as_bytes());
            payloads.put(&name, content.into()).await.expect("stores");
        }
    }
    let second = PayloadName::of(prefix.clone(), b"a").next_generation();
    payloads.put(&second, "a".into()).await.expect("stores");

    let listed: Vec<_> = payloads.list(&prefix).try_collect().await.expect("lists");
    let found: BTreeSet<_> = listed.iter().map(|object| (object.name.clone(), object.length)).collect();
    let expected =
        contents.map(|content| (PayloadName::of(prefix.clone(), content.as_bytes()), content.len() as u64));
    assert_eq!(found, expected.into_iter().chain([(second, 1)]).collect());
    // The clock of a server may differ from the one here.
    for object in listed {
        let age = Utc::now() - object.stored_at;
        assert!(age.abs() < TimeDelta::hours(1), "stored {age} ago");
    }
}

/// Lists that take several requests are complete, and name each object once.
pub async fn more_than_1000_objects_are_listed(payloads: Arc<dyn PayloadStore>) {
    let prefix = new_prefix();
    let contents: Vec<_> = (0..1_010).map(|n| Bytes::from(format!("content {n}"))).collect();
    let expected: BTreeSet<_> =
        contents.iter().map(|content| PayloadName::of(prefix.clone(), content)).collect();
    let puts = contents.into_iter().map(|content| {
        let (payloads, name) = (&payloads, PayloadName::of(prefix.clone(), &content));
        async move { payloads.put(&name, content).await.expect("stores") }
    });
    stream::iter(puts).buffer_unordered(16).collect::<Vec<()>>().await;

    let listed: Vec<_> =
        payloads.list(&prefix).map_ok(|object| object.name).try_collect().await.expect("lists");
    assert_eq!(listed.len(), expected.len());
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
}
