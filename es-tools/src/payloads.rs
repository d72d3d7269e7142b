//! The payload stores that an option can name.

use std::sync::Arc;

use es_core::payloads::{DirectoryPayloads, PayloadPrefix, PayloadStore};
use es_core::repository::Archives;

use crate::failure::{Failure, Result};
use crate::session::Session;

/// The last segment of the prefix of archives.
const ARCHIVES: &str = "archives";

/// Opens the payload store `place`, a directory, which need not exist. Returns the prefix, if the place has one.
pub(crate) fn open(place: &str) -> Result<(Arc<dyn PayloadStore>, Option<PayloadPrefix>)> {
    if place.contains("://") {
        return Err(Failure::of(format!("`{place}` is not a payload store: use the path of a directory")));
    }
    Ok((Arc::new(DirectoryPayloads::new(place)), None))
}

/// Returns the archives of the session's table at `place`.
pub(crate) fn archives(place: &str, session: &Session) -> Result<Archives> {
    let (payloads, prefix) = open(place)?;
    let prefix = prefix.map_or_else(|| session.store.place().1.to_owned(), |prefix| prefix.to_string());
    Ok(Archives::new(payloads, PayloadPrefix::new(&format!("{prefix}/{ARCHIVES}"))?))
}
