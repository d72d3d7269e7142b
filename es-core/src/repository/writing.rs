//! Sending writes until their outcome is known.

use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::repository::Inner;
use crate::repository::retrying::{Deadline, Retrying, Sent};
use crate::store::{Append, AppendError, Appended, EventStore, WriteError, WriteSet, Written};

/// Sends the very same write again while the store throttles or does not respond.
pub(crate) struct Sender<'a> {
    pub(crate) store: &'a dyn EventStore,
    pub(crate) retrying: Retrying<'a>,
}

impl Sender<'_> {
    pub(crate) async fn append(&self, append: &Append, cost: &mut Cost) -> Result<Appended, AppendError> {
        self.retrying.check()?;
        let mut sent = Sent::write();
        loop {
            match self.store.append(append).await {
                Ok(appended) => {
                    *cost += appended.cost;
                    self.retrying.tokens.refill();
                    return Ok(appended);
                }
                Err(AppendError::Conflict(conflict)) => {
                    *cost += conflict.cost;
                    self.retrying.tokens.refill();
                    return Err(conflict.into());
                }
                Err(AppendError::Store(error)) => {
                    *cost += Cost::write(0.0); // the error does not say what it cost
                    self.retrying.wait(error, &mut sent).await?;
                }
            }
        }
    }

    pub(crate) async fn write(&self, set: &WriteSet, cost: &mut Cost) -> Result<Written, WriteError> {
        self.retrying.check()?;
        let mut sent = Sent::write();
        loop {
            match self.store.write(set).await {
                Ok(written) => {
                    *cost += written.cost;
                    self.retrying.tokens.refill();
                    return Ok(written);
                }
                Err(WriteError::Conflict(conflict)) => {
                    *cost += conflict.cost;
                    self.retrying.tokens.refill();
                    return Err(conflict.into());
                }
                Err(WriteError::Store(error)) => {
                    *cost += Cost::write(0.0); // the error does not say what it cost
                    self.retrying.wait(error, &mut sent).await?;
                }
                Err(other) => {
                    *cost += Cost::write(0.0); // the error does not say what it cost
                    self.retrying.tokens.refill();
                    return Err(sent.refused(other));
                }
            }
        }
    }
}

impl<A: Aggregate> Inner<A> {
    pub(crate) fn sender(&self, deadline: Deadline) -> Sender<'_> {
        Sender { store: &*self.store, retrying: self.retrying(deadline) }
    }

    pub(crate) fn retrying(&self, deadline: Deadline) -> Retrying<'_> {
        Retrying { clock: &*self.clock, policy: self.retry, tokens: &self.tokens, deadline }
    }
}
