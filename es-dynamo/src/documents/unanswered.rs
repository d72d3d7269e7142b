//! Attempts without an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_dynamodb::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;

/// Whether the SDK made an attempt of which nobody knows what became, before the one that it reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Unanswered(Arc<AtomicBool>);

impl Unanswered {
    pub(super) fn was_there(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Intercept for Unanswered {
    fn name(&self) -> &'static str {
        "Unanswered"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // What is wrong with the request is said before anything is done; all else says nothing.
        if !context.response().is_some_and(|response| response.status().is_client_error()) {
            self.0.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}
