//! What an operator may do after data was lost: by a restore, or by hand.

use super::failure::Parked;
use super::state::{Overview, Read, SliceState, Slot, encode, read};
use super::{Projector, parking};
use crate::documents::{ChangeError, ChangeSet, DocumentChange, ExpectedDocument};
use crate::feed::{EventFilter, FeedAnchor, FeedRead, Position, Slice, mismatch};
use crate::process::reached_key;
use crate::projection::{Projection, ProjectorError};

/// Where a slice goes on: see [`Projector::seek`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeekTo {
    /// After the last event that is in the slice now.
    End,
    /// After the event at this position; [`Position::NONE`] for the start of the slice.
    After(Position),
}

impl<P: Projection> Projector<P> {
    /// Lets a slice go on at another position, after the feed was restored to an earlier state and the checkpoint does
    /// not fit it any more ([`FeedError::BeyondEnd`](crate::feed::FeedError), [`FeedError::Replaced`](crate::feed::FeedError)).
    ///
    /// It is the way on for a process, which cannot start again, and for a publisher that is not to publish everything
    /// again. Events that are passed over are never handled: the reactions to them are lost. Events that were handled
    /// before, and come again, are handled again by a projection or a publisher. A process does not repeat its commands
    /// and events then, because they have idempotency keys; keys are remembered for 90 days, so do not go back further.
    ///
    /// ```
    /// use es_core::Projector;
    /// use es_core::projection::{BoxError, Projection, SeekTo, SliceStatus};
    ///
    /// /// Goes on after the last event that the restored feed has in common with the one before.
    /// async fn go_on(projector: &Projector<impl Projection>) -> Result<(), BoxError> {
    ///     for slice in projector.progress().await?.slices {
    ///         if matches!(slice.status, SliceStatus::Stopped(_)) && slice.position > slice.end {
    ///             projector.seek(slice.slice, SeekTo::End).await?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] while the checkpoint fits the feed, when the slice ends before the position, while
    /// events or timeouts of the slice are parked, since their positions are those of the feed before the restore, and
    /// for a projection with read models, which has to be rebuilt.
    pub async fn seek(&self, slice: Slice, to: SeekTo) -> Result<(), ProjectorError> {
        if !self.inner.projection.clone().stages().is_empty() {
            return Err(ProjectorError::invalid(
                "the rows of a projection do not fit another position: call `rebuild` or `reset`",
            ));
        }
        let (store, names) = (&*self.inner.store, self.inner.names()?);
        let active = Overview::read(store, &names).await?.control.active;
        let key = names.slice(Slot { build: active, slice });
        loop {
            let Read { value: state, revision } = read::<SliceState>(store, &key).await?;
            if mismatch(store, slice, state.position, state.anchor).await?.is_none() {
                return Err(ProjectorError::invalid(format!(
                    "the checkpoint of slice {slice} at position {} fits the feed, and the slice goes on from there: call \
                     `skip` to pass over an event at which it has stopped",
                    state.position
                )));
            }
            if state.parked > 0 {
                return Err(ProjectorError::invalid(format!(
                    "slice {slice} has {} parked events, at positions of the feed before it was restored: call \
                     `replay_parked` or `discard_parked` first",
                    state.parked
                )));
            }
            let (position, anchor) = self.place(slice, to).await?;
            let next =
                SliceState { position, anchor, owner: None, failure: None, exception: None, ..state.clone() };
            let mut set = ChangeSet::new(self.inner.settings.ids.new_id()).put(
                key.clone(),
                revision.into(),
                encode(&next)?,
            );
            if !P::IS_REPLAYABLE {
                // The positions up to which its turns have begun are those of the feed before.
                set = set.with_changes([DocumentChange::delete(reached_key(&self.inner.name, slice))]);
            }
            if self.changed(&set).await? {
                tracing::warn!(
                    projection = self.inner.name,
                    slice = slice.get(),
                    from = state.position.get(),
                    to = position.get(),
                    "a slice goes on at another position, as an operator decided"
                );
                return Ok(());
            }
        }
    }

    /// Gives up an event or a timeout that is parked: it will never be handled, and counts as
    /// [skipped](super::SliceProgress::skipped). The way out when it cannot be replayed, because its commit is gone. If
    /// a reaction to it has begun, `abandon` its instance.
    ///
    /// Later events of its stream stay parked; [`replay_parked`](Self::replay_parked) handles them.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] when it is not parked any more.
    pub async fn discard_parked(&self, parked: &Parked) -> Result<(), ProjectorError> {
        let (store, names) = (&*self.inner.store, self.inner.names()?);
        let slot = Slot { build: parked.build, slice: parked.slice };
        let (key, document) = (names.slice(slot), parking::document(&names, slot, parked));
        loop {
            let Read { value: state, revision } = read::<SliceState>(store, &key).await?;
            let Some(found) = store.document(&document).await? else {
                return Err(ProjectorError::invalid(format!("{} is not parked", parked.event)));
            };
            let next = SliceState {
                owner: None,
                parked: state.parked.saturating_sub(1),
                skipped: state.skipped.saturating_add(1),
                ..state
            };
            let set = ChangeSet::new(self.inner.settings.ids.new_id())
                .put(key.clone(), revision.into(), encode(&next)?)
                .delete(document.clone(), ExpectedDocument::At(found.revision));
            if self.changed(&set).await? {
                return Ok(());
            }
        }
    }

    /// The position where a slice is to go on, and the part of the feed that holds it, if that is known.
    async fn place(
        &self,
        slice: Slice,
        to: SeekTo,
    ) -> Result<(Position, Option<FeedAnchor>), ProjectorError> {
        let store = &self.inner.store;
        let end = store.feed_end(slice).await?;
        match to {
            SeekTo::End => {
                let read = FeedRead::new(slice, end).limit(1).filter(EventFilter::none());
                let page = store.read_feed(&read).await?;
                Ok((page.through, page.anchor))
            }
            SeekTo::After(position) if position <= end => Ok((position, None)),
            SeekTo::After(position) => {
                let reason = format!(
                    "slice {slice} of the feed ends at position {end}, before position {position}: choose its end, or an \
                     earlier position"
                );
                Err(ProjectorError::invalid(reason))
            }
        }
    }

    /// Makes the changes, and lets the workers notice; says whether nothing else had changed meanwhile.
    async fn changed(&self, set: &ChangeSet) -> Result<bool, ProjectorError> {
        match self.inner.store.change(set).await {
            Ok(()) => {
                self.inner.ordered.notify(usize::MAX);
                Ok(true)
            }
            Err(ChangeError::Store(error)) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }
}
