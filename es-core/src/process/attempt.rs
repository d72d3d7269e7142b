//! One attempt at a reaction.

use super::React;
use super::reaction::{Done, Instance, Reaction};
use super::reactor::{RETENTION, Reactor, failed};
use super::turn::{Begun, Turn};
use crate::aggregate::Aggregate;
use crate::documents::ChangeError;
use crate::events::Events;
use crate::projection::ProjectError;
use crate::projection::timeout::Scheduled;
use crate::repository::ExecuteError;
use crate::version::{ExpectedVersion, Version};

/// How an attempt ended.
pub(super) enum Attempted {
    /// The reaction is done.
    Done,
    /// The reaction was done before, perhaps by another worker.
    DoneBefore,
    /// The instance has changed meanwhile.
    Outdated,
}

impl Attempted {
    fn before(is_done: bool) -> Self {
        if is_done { Self::DoneBefore } else { Self::Outdated }
    }
}

impl<S: Aggregate> Reactor<S> {
    /// Reacts to an event.
    pub(super) async fn attempt<P, E>(
        &mut self,
        process: &P,
        instance: &Instance<'_, S>,
        event: &E,
        mut turn: Turn,
    ) -> Result<Attempted, ProjectError>
    where
        P: React<E, State = S>,
        E: Sync,
    {
        if turn.is_begun() {
            match turn.take().await.map_err(ProjectError::Handler)? {
                Begun::Yes => {}
                Begun::No => return Ok(Attempted::Outdated),
                Begun::Lost => return Err(ProjectError::Lost),
            }
            if instance.is_done().await.map_err(failed)? {
                turn.end().await.map_err(ProjectError::Handler)?;
                return Ok(Attempted::DoneBefore);
            }
        }
        let loaded = self.states.load(instance.id).await.map_err(failed)?;
        let mut reaction = Reaction::new(instance, &loaded, turn);
        let mut events = process.react(event, &mut reaction).await;
        if events.is_ok() {
            events = reaction.claim_timers().await.and(events);
        }
        let Done { turn, is_outdated, is_lost, timers } = reaction.finish();
        if is_lost {
            return Err(ProjectError::Lost);
        }
        if is_outdated {
            turn.end().await.map_err(ProjectError::Handler)?;
            return Ok(Attempted::before(instance.is_done().await.map_err(failed)?));
        }
        let events = events.map_err(ProjectError::Handler)?;
        self.finish(instance, loaded.version, events, &timers, turn).await
    }

    /// Records what a reaction led to.
    async fn finish(
        &mut self,
        instance: &Instance<'_, S>,
        basis: Version,
        events: Events<S>,
        timers: &[Scheduled],
        turn: Turn,
    ) -> Result<Attempted, ProjectError> {
        let is_begun = turn.is_begun();
        if events.is_empty() && !is_begun {
            return Ok(Attempted::Done);
        }
        let ctx = instance.ctx;
        if !timers.is_empty() {
            match self.schedule(ctx.slice(), timers, &turn).await {
                Ok(()) => {}
                Err(ChangeError::Refused) => return Ok(Attempted::Outdated),
                Err(error) => return Err(ProjectError::Handler(error.into())),
            }
        }
        // Nothing but a turn that has begun proves that the slice is still this worker's.
        let lease = ctx.lease().filter(|_| !is_begun).cloned();
        let conditions: Vec<_> = lease.into_iter().chain([turn.condition()]).collect();
        let asked = conditions.len();
        let request = self
            .states
            .with_metadata(ctx.metadata().following(ctx.event_id()))
            .expected_version(ExpectedVersion::Exact(basis))
            .once_for(RETENTION, &instance.key)
            .with_writes(move |_| conditions.clone());
        match request.record(instance.id, events).await {
            Ok(_) => {}
            Err(ExecuteError::Refused(refused)) if !is_begun && refused.index + 1 < asked => {
                return Err(ProjectError::Lost);
            }
            Err(ExecuteError::Outdated(_) | ExecuteError::Refused(_)) => return Ok(Attempted::Outdated),
            Err(error) => return Err(ProjectError::Handler(error.into())),
        }
        turn.end().await.map_err(ProjectError::Handler)?;
        Ok(Attempted::Done)
    }
}
