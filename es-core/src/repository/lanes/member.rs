//! A command in a lane.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::driver::Lane;
use super::state::{Ended, Failure, State, Ticket};
use crate::aggregate::Aggregate;
use crate::cost::Cost;
use crate::repository::Inner;
use crate::repository::loading::Fold;
use crate::repository::retry::Deadline;
use crate::store::NewCommit;

/// A command in a lane. It leaves when it is dropped.
pub(crate) struct Member<A: Aggregate> {
    inner: Arc<Inner<A>>,
    lane: Arc<Lane<A>>,
    ticket: Ticket,
    deadline: Deadline,
}

impl<A: Aggregate> Member<A> {
    pub(super) fn join(inner: Arc<Inner<A>>, lane: Arc<Lane<A>>, deadline: Deadline) -> Self {
        let ticket = lane.state().join(deadline);
        Self { inner, lane, ticket, deadline }
    }

    /// Waits until the command may be decided.
    pub(in crate::repository) async fn turn(&self) -> Result<Turn<'_, A>, Ended> {
        let tip = self.wait(|state| match state.take_end(self.ticket) {
            None | Some(Ended::Again) => state.start_decision(self.ticket).map(Ok),
            Some(ended) => Some(Err(ended)),
        });
        Ok(Turn { member: self, tip: tip.await?? })
    }

    /// Waits for the end of the last decision.
    pub(in crate::repository) async fn end(&self) -> Ended {
        self.wait(|state| state.take_end(self.ticket)).await.unwrap_or_else(|ended| ended)
    }

    /// Drives the lane until `ready` returns a value, or the deadline passes.
    async fn wait<T>(&self, mut ready: impl FnMut(&mut State<A>) -> Option<T>) -> Result<T, Ended> {
        poll_fn(|context| self.poll(context, &mut ready)).await
    }

    fn poll<T>(
        &self,
        context: &mut Context<'_>,
        ready: &mut impl FnMut(&mut State<A>) -> Option<T>,
    ) -> Poll<Result<T, Ended>> {
        {
            let mut state = self.lane.state();
            if let Some(value) = ready(&mut state) {
                return Poll::Ready(Ok(value));
            }
            // Registered before the driver is polled: from then on, others may end this member.
            state.set_waker(self.ticket, context.waker());
        }
        self.lane.drive(&self.inner, self.ticket, self.deadline, context);
        let mut state = self.lane.state();
        if let Some(value) = ready(&mut state) {
            return Poll::Ready(Ok(value));
        }
        if self.deadline.allows(Duration::ZERO, &*self.inner.clock) {
            return Poll::Pending;
        }
        let outcome_unknown = state.give_up(self.ticket);
        drop(state);
        self.lane.wake_all();
        let failure = Failure::Store(self.deadline.exceeded().with_outcome_unknown(outcome_unknown).into());
        Poll::Ready(Err(Ended::Failed { failure, cost: Cost::ZERO }))
    }

    fn wake_deciders(&self) {
        let wakers = self.lane.state().take_deciders();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<A: Aggregate> Drop for Member<A> {
    fn drop(&mut self) {
        let others_must_know = self.lane.state().leave(self.ticket);
        if let Some(lane) = self.inner.lanes.leave(self.lane.stream()) {
            lane.stop();
        } else if others_must_know {
            self.lane.wake_all();
        }
    }
}

/// The right of a member to decide on a state. Until it ends, no other member decides.
pub(in crate::repository) struct Turn<'m, A: Aggregate> {
    member: &'m Member<A>,
    tip: Arc<Fold<A>>,
}

impl<A: Aggregate> Turn<'_, A> {
    /// Returns a copy of the state to decide on, if it can be copied.
    pub(in crate::repository) fn state(&self) -> Option<Fold<A>> {
        self.tip.try_clone()
    }

    /// Queues a commit, which leads to the state `after`. Returns `false` if the command must be decided again.
    pub(in crate::repository) fn accept(self, commit: NewCommit, after: Arc<Fold<A>>) -> bool {
        self.member.lane.state().accept(self.member.ticket, commit, after)
    }

    /// Notes that there is nothing to record. Returns `false` if the command must be decided again.
    pub(in crate::repository) fn refuse(self) -> bool {
        self.member.lane.state().refuse(self.member.ticket)
    }
}

impl<A: Aggregate> Drop for Turn<'_, A> {
    fn drop(&mut self) {
        self.member.lane.state().cancel(self.member.ticket);
        self.member.wake_deciders();
    }
}
