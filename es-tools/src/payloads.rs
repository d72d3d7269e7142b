//! The payload stores that an option can name.

use std::sync::Arc;

use es_core::payloads::{DirectoryPayloads, PayloadPrefix, PayloadStore};

use crate::failure::{Failure, Result};

/// Opens the payload store `place`, a directory, which need not exist. Returns the prefix, if the place has one.
pub(crate) fn open(place: &str) -> Result<(Arc<dyn PayloadStore>, Option<PayloadPrefix>)> {
    if place.contains("://") {
        return Err(Failure::of(format!("`{place}` is not a payload store: use the path of a directory")));
    }
    Ok((Arc::new(DirectoryPayloads::new(place)), None))
}
