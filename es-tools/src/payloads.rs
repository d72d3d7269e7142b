//! The payload stores that an option can name: a directory, or a bucket on Amazon S3.

use std::sync::Arc;

use es_core::payloads::{DirectoryPayloads, PayloadPrefix, PayloadStore};
use es_core::repository::Archives;

use crate::failure::{Failure, Result};
use crate::session::Session;

/// The scheme of a place on Amazon S3.
const S3: &str = "s3://";

/// The last segment of the prefix of archives.
const ARCHIVES: &str = "archives";

/// Opens the payload store `place`: `s3://BUCKET`, `s3://BUCKET/PREFIX`, or a directory, which need not exist.
pub(crate) async fn open(place: &str) -> Result<Arc<dyn PayloadStore>> {
    if let Some(address) = place.strip_prefix(S3) {
        let (bucket, prefix) = split(address)
            .ok_or_else(|| Failure::of(format!("`{place}` is not a place on S3: use s3://BUCKET/PREFIX")))?;
        return on_s3(bucket, prefix).await;
    }
    if place.contains("://") {
        let reason =
            format!("`{place}` is not a payload store: use the path of a directory, or s3://BUCKET/PREFIX");
        return Err(Failure::of(reason));
    }
    Ok(Arc::new(DirectoryPayloads::new(place)))
}

/// Returns the archives of the session's table at `place`.
pub(crate) async fn archives(place: &str, session: &Session) -> Result<Archives> {
    let prefix = PayloadPrefix::new(&format!("{}/{ARCHIVES}", session.store.place().1))?;
    Ok(Archives::new(open(place).await?, prefix))
}

/// Opens the store in a bucket, in which the keys of all objects start with `prefix`.
#[cfg(feature = "s3")]
async fn on_s3(bucket: &str, prefix: Option<PayloadPrefix>) -> Result<Arc<dyn PayloadStore>> {
    let payloads = es_dynamo::payloads::S3Payloads::from_env(bucket).await;
    Ok(Arc::new(match prefix {
        Some(prefix) => payloads.with_key_prefix(prefix),
        None => payloads,
    }))
}

#[cfg(not(feature = "s3"))]
async fn on_s3(_: &str, _: Option<PayloadPrefix>) -> Result<Arc<dyn PayloadStore>> {
    Err(Failure::of("this build does not support S3: install it with `cargo install es-tools --features s3`"))
}

/// Returns the bucket and the prefix in an address without its scheme.
fn split(address: &str) -> Option<(&str, Option<PayloadPrefix>)> {
    let address = address.strip_suffix('/').unwrap_or(address);
    let (bucket, prefix) = match address.split_once('/') {
        Some((bucket, prefix)) => (bucket, Some(PayloadPrefix::new(prefix).ok()?)),
        None => (address, None),
    };
    (!bucket.is_empty()).then_some((bucket, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_bucket_and_maybe_a_prefix() {
        for (address, bucket, prefix) in [
            ("orders", "orders", None),
            ("orders/", "orders", None),
            ("orders/a", "orders", Some("a")),
            ("orders/a/b/", "orders", Some("a/b")),
        ] {
            let (found, rest) = split(address).expect("valid");
            assert_eq!((found, rest.as_ref().map(PayloadPrefix::as_str)), (bucket, prefix), "{address}");
        }
        for invalid in ["", "/", "/a", "orders//", "orders/a b", "orders/../a"] {
            assert!(split(invalid).is_none(), "{invalid}");
        }
    }
}
