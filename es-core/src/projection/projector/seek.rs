//! Seeking: an operator decides where a slice continues after the feed was restored.

use std::iter;

use super::Projector;
use super::lost_splits::{forgotten, lost_split};
use super::state::{Names, Overview, Revised, SliceState, Slot, encode};
use crate::documents::{ChangeSet, DocumentChange};
use crate::feed::{FeedAnchor, Position, Slice, mismatch};
use crate::process::reached_key;
use crate::projection::{Projection, ProjectorError};

/// A position, and its anchor if known.
type Place = (Position, Option<FeedAnchor>);

/// The position from which a slice continues. See [`Projector::seek`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeekTo {
    /// After the current last event of the slice.
    End,
    /// After the event at this position, or [`Position::NONE`] for the start of the slice.
    After(Position),
}

impl<P: Projection> Projector<P> {
    /// Moves the checkpoint of a slice, after the feed was restored to an earlier state and the checkpoint is no
    /// longer valid ([`FeedError::BeyondEnd`](crate::feed::FeedError),
    /// [`FeedError::Replaced`](crate::feed::FeedError), [`FeedError::SplitLost`](crate::feed::FeedError)).
    ///
    /// Use it for a process, which cannot be replayed, and for a publisher that should not publish everything
    /// again. Skipped events are never handled, so the reactions to them are lost. Events that were handled before
    /// are handled again by a projection or a publisher. A process does not repeat its commands and events,
    /// because they have idempotency keys, which are kept for 90 days: do not go back further.
    ///
    /// If the feed has lost a split of the slice, the checkpoints of its former children are removed as well. Their
    /// pending timeouts remain, and are handled when they are due.
    ///
    /// ```
    /// use es_core::Projector;
    /// use es_core::projection::{BoxError, Projection, SeekTo, SliceStatus};
    ///
    /// /// Continue after the last event that the restored feed has in common with the previous one.
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
    /// Does nothing if the slice is at that position and has not stopped, so that a call can be repeated after an
    /// error.
    ///
    /// # Errors
    ///
    /// [`ProjectorError::Invalid`] if the checkpoint is valid, if the slice ends before the position, if events or
    /// timeouts of the slice are parked (their positions are those of the feed before the restore), and for a
    /// projection with read models, which has to be rebuilt.
    pub async fn seek(&self, slice: Slice, to: SeekTo) -> Result<(), ProjectorError> {
        if !self.inner.projection.clone().stages().is_empty() {
            return Err(ProjectorError::invalid(
                "the rows of a projection do not fit another position: call `rebuild` or `reset`",
            ));
        }
        let (store, names) = (&*self.inner.store, self.inner.names()?);
        loop {
            let overview = Overview::read(store, &names).await?;
            let tree = store.slice_tree().await?;
            let slot = Slot { build: overview.control.active, slice };
            let state = overview.slice(slot).value;
            let fits = lost_split(&tree, &overview, slot).is_none()
                && mismatch(store, slice, state.position, state.anchor).await?.is_none();
            if fits && state.failure.is_none() && state.position == self.place(slice, to).await?.0 {
                return Ok(());
            }
            if fits {
                return Err(ProjectorError::invalid(format!(
                    "the checkpoint of slice {slice} at position {} fits the feed, and the slice goes on from there: call \
                     `skip` to pass over an event at which it has stopped",
                    state.position
                )));
            }
            // The slices that the feed has lost together with the split of this one.
            let lost = overview.descendants(tree.initial(), slot).filter(|(slice, _)| !tree.contains(*slice));
            let lost: Vec<_> = lost.map(|(slice, _)| Slot { slice, ..slot }).collect();
            has_nothing_parked(&overview, slot, &lost)?;
            let place = self.place(slice, to).await?;
            if self.changed(&self.moved(&names, &overview, slot, place, &lost)?).await? {
                tracing::warn!(
                    projection = self.inner.name,
                    slice = slice.get(),
                    from = state.position.get(),
                    to = place.0.get(),
                    "moved the checkpoint of a slice by decision of an operator"
                );
                return Ok(());
            }
        }
    }

    /// Returns the changes that move the checkpoint of a slot to `place`, and remove those of the slots that the feed
    /// has lost.
    fn moved(
        &self,
        names: &Names,
        overview: &Overview,
        slot: Slot,
        (position, anchor): Place,
        lost: &[Slot],
    ) -> Result<ChangeSet, ProjectorError> {
        let Revised { value: state, revision } = overview.slice(slot);
        let next = SliceState {
            position,
            anchor,
            owner: None,
            failure: None,
            exception: None,
            closed: None,
            ..state
        };
        let mut set = ChangeSet::new(self.inner.settings.ids.new_id());
        set = set.put(names.slice(slot), revision.into(), encode(&next)?);
        for slot in lost.iter().copied() {
            let Revised { value, revision } = overview.slice(slot);
            set = set.put(names.slice(slot), revision.into(), encode(&forgotten(&value))?);
        }
        if !P::IS_REPLAYABLE {
            // The recorded positions of its turns are those of the previous feed.
            let slots = iter::once(&slot).chain(lost);
            let keys = slots.map(|slot| reached_key(&self.inner.name, slot.slice));
            set = set.with_changes(keys.map(DocumentChange::delete));
        }
        Ok(set)
    }

    /// Returns the position from which a slice should continue, and its anchor if known.
    async fn place(&self, slice: Slice, to: SeekTo) -> Result<Place, ProjectorError> {
        let store = &self.inner.store;
        let end = store.feed_end(slice).await?;
        match to {
            SeekTo::End => Ok((end.position, end.anchor)),
            SeekTo::After(position) if position <= end.position => Ok((position, None)),
            SeekTo::After(position) => {
                let reason = format!(
                    "slice {slice} of the feed ends at position {}, before position {position}: choose its end, or an \
                     earlier position",
                    end.position
                );
                Err(ProjectorError::invalid(reason))
            }
        }
    }
}

/// Checks that neither the slot nor the slots that the feed has lost with it have parked events.
fn has_nothing_parked(overview: &Overview, slot: Slot, lost: &[Slot]) -> Result<(), ProjectorError> {
    let states = iter::once(&slot).chain(lost).map(|slot| (slot.slice, overview.slice(*slot).value));
    match states.into_iter().find(|(_, state)| state.parked > 0) {
        None => Ok(()),
        Some((slice, state)) => Err(ProjectorError::invalid(format!(
            "slice {slice} has parked events ({}) at positions of the feed before it was restored: call `replay_parked` or \
             `discard_parked` first",
            state.parked
        ))),
    }
}
