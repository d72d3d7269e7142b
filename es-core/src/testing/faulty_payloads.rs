//! A payload store with injected faults.

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::faulty_store::hold_back;
use super::{Fault, Faults};
use crate::payloads::{PayloadError, PayloadName, PayloadPrefix, PayloadStore, StoredPayload};

/// A payload store whose requests fail as planned by [`Faults`].
///
/// ```
/// use es_core::payloads::MemoryPayloads;
/// use es_core::testing::{FaultyPayloads, Faults};
///
/// let payloads = FaultyPayloads::new(MemoryPayloads::new(), Faults::seeded(1).lost_answers(0.5));
/// ```
#[derive(Clone, Debug)]
pub struct FaultyPayloads<P> {
    payloads: P,
    faults: Faults,
}

impl<P: PayloadStore> FaultyPayloads<P> {
    /// Wraps `payloads` so that `faults` apply to it.
    #[must_use]
    pub fn new(payloads: P, faults: Faults) -> Self {
        Self { payloads, faults }
    }

    /// Executes a request with the next planned fault.
    async fn request<T>(
        &self,
        carry_out: impl AsyncFnOnce() -> Result<T, PayloadError>,
    ) -> Result<T, PayloadError> {
        match self.faults.next() {
            None | Some(Fault::TransactionConflict | Fault::PageCut(_) | Fault::Stale(_)) => {
                carry_out().await
            }
            Some(Fault::Delayed(delay)) => {
                hold_back(delay).await;
                carry_out().await
            }
            Some(Fault::Throttled) => Err(PayloadError::Throttled("injected throttling".into())),
            Some(Fault::InternalError) => Err(PayloadError::unavailable("injected internal error")),
            Some(Fault::RequestLost) => Err(PayloadError::unavailable("injected loss of the request")),
            Some(Fault::Refused(_)) => Err(PayloadError::setup("injected rejection", None)),
            Some(Fault::AnswerUnreadable(which)) if which < 0.5 => {
                Err(PayloadError::unavailable("injected unreadable response"))
            }
            Some(Fault::AnswerLost | Fault::AnswerUnreadable(_) | Fault::Stalled) => {
                let _ = carry_out().await;
                Err(PayloadError::unavailable("injected loss of the response"))
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: PayloadStore> PayloadStore for FaultyPayloads<P> {
    async fn put(&self, name: &PayloadName, content: Bytes) -> Result<(), PayloadError> {
        self.request(async || self.payloads.put(name, content).await).await
    }

    async fn get(&self, name: &PayloadName) -> Result<Bytes, PayloadError> {
        self.request(async || self.payloads.get(name).await).await
    }

    async fn delete(&self, name: &PayloadName) -> Result<(), PayloadError> {
        self.request(async || self.payloads.delete(name).await).await
    }

    fn list(&self, prefix: &PayloadPrefix) -> BoxStream<'_, Result<StoredPayload, PayloadError>> {
        let prefix = prefix.clone();
        // One request lists all objects, so that a fault never shortens a listing without an error.
        let listed = async move {
            self.request(async || self.payloads.list(&prefix).try_collect::<Vec<_>>().await).await
        };
        stream::once(listed).map_ok(|listed| stream::iter(listed.into_iter().map(Ok))).try_flatten().boxed()
    }
}
