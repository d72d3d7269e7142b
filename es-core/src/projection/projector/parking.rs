//! Parked events (dead letters), and their replay.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt};

use super::consumer::Consumer;
use super::failure::{FailedEvent, Parked};
use super::handling::Handled;
use super::held::{Ended, Held};
use super::state::{Names, SliceState, Slot, decode, encode, read};
use crate::documents::{DocumentChange, DocumentKey, DocumentQuery, Documents, pages};
use crate::error_text::error_text;
use crate::event::EventData;
use crate::feed::{FeedEntry, Position};
use crate::projection::{EventContext, ProjectError, Projection, ProjectorError, timeout};
use crate::store::{EventStore, Read};
use crate::stream_id::StreamId;
use crate::version::Version;

/// The result of replaying a parked event or timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replayed {
    Done,
    /// It failed again, and remains parked.
    Failed,
    /// It failed with a transient error. Nothing was written.
    Later,
}

/// The number of replays in quick succession while errors are transient. Later ones are as far apart as the restarts of a
/// slice.
const QUICK_REPLAYS: u32 = 3;

/// The next replay of parked events.
#[derive(Debug, Default)]
pub(super) struct NextReplay {
    /// The number of replays in a row that were not completed because of transient errors.
    delayed: u32,
    /// The monotonic time at which it begins.
    at: Duration,
}

/// Returns a page of the parked events of a slot after the document `after`, in order, with the names of their
/// documents.
pub(super) async fn parked(
    store: &(impl Documents + ?Sized),
    names: &Names,
    slot: Slot,
    after: Option<String>,
) -> Result<Vec<(String, Parked)>, ProjectorError> {
    let collection = names.parked(slot);
    let mut pages = pages(store, DocumentQuery::new(&collection).after(after));
    while let Some(page) = pages.try_next().await? {
        // An empty page is not the end.
        if page.documents.is_empty() {
            continue;
        }
        let decode = |(name, document): (String, _)| {
            let mut parked: Parked = decode(&DocumentKey::new(&collection, &name), &document)?;
            parked.build = slot.build;
            Ok((name, parked))
        };
        return page.documents.into_iter().map(decode).collect();
    }
    Ok(Vec::new())
}

/// Returns the document of a parked event or timeout.
pub(super) fn document(names: &Names, slot: Slot, parked: &Parked) -> DocumentKey {
    match parked.event.timeout_document() {
        Some(name) => names.parked_timeout(slot, &name),
        None => names.parked_event(slot, parked.event.position),
    }
}

impl<P: Projection> Consumer<'_, '_, P> {
    /// Parks an event with the next checkpoint.
    pub(super) async fn park(
        &mut self,
        event: &EventData,
        ctx: &EventContext,
        first: Version,
        reason: &str,
    ) -> Result<(), Ended> {
        let slot = self.held.slot;
        let parked = Parked {
            build: slot.build,
            slice: slot.slice,
            event: FailedEvent::of(event, ctx),
            first,
            error: reason.to_owned(),
            commit: Some(ctx.event_id().commit()),
            scheduled: None,
        };
        let key = self.held.names.parked_event(slot, ctx.position());
        let change = DocumentChange::put(key, encode(&parked)?);
        let staged = self.staged()?;
        if !self.pending.has_room_for(&change, staged) {
            self.checkpoint().await?;
        }
        tracing::error!(
            projection = self.held.inner.name,
            build = slot.build,
            slice = slot.slice.get(),
            stream = %ctx.stream(),
            version = ctx.version().get(),
            event = event.name(),
            position = ctx.position().get(),
            reason,
            "an event is parked"
        );
        self.pending.changes.push(change);
        self.parked.insert(ctx.stream().clone());
        self.pending.parked += 1;
        self.pending.events += 1;
        self.reach(ctx.position(), ctx.anchor());
        if !P::IS_REPLAYABLE {
            // A process infers from a later event that earlier ones are finished. That does not hold for a parked
            // event, so it must not be handled again.
            self.checkpoint().await?;
        }
        Ok(())
    }

    /// Returns the streams with parked events.
    pub(super) async fn parked_streams(&self) -> Result<HashSet<StreamId>, Ended> {
        let mut streams = HashSet::new();
        let mut after = None;
        if self.held.state.parked == 0 {
            return Ok(streams);
        }
        loop {
            let some = self.parked_after(after).await?;
            let Some((last, _)) = some.last() else { return Ok(streams) };
            after = Some(last.clone());
            for (_, parked) in some.iter().filter(|(_, parked)| parked.scheduled.is_none()) {
                streams.insert(parked.stream()?);
            }
        }
    }

    /// Returns the streams with parked events in the ancestors of the slice, whose later events have to wait.
    pub(super) async fn streams_parked_before(&self) -> Result<HashSet<StreamId>, Ended> {
        let Held { inner, names, slot, ancestors, .. } = &*self.held;
        let mut streams = HashSet::new();
        for (slice, _) in ancestors {
            let ancestor = Slot { slice: *slice, ..*slot };
            let mut after = None;
            loop {
                let read = || parked(&*inner.store, names, ancestor, after.clone());
                let some = self.held.persistently(read).await?;
                let Some((last, _)) = some.last() else { break };
                after = Some(last.clone());
                for (_, parked) in some.iter().filter(|(_, parked)| parked.scheduled.is_none()) {
                    streams.insert(parked.stream()?);
                }
            }
        }
        Ok(streams)
    }

    /// Returns whether an earlier event of the stream is parked, in the slice or in an ancestor.
    pub(super) async fn is_parked(&mut self, stream: &StreamId) -> Result<bool, Ended> {
        if self.parked.contains(stream) {
            return Ok(true);
        }
        if self.parked_before.contains(stream) {
            // It may have been replayed in the meantime. The ancestors park no more events.
            self.parked_before = self.streams_parked_before().await?;
        }
        Ok(self.parked_before.contains(stream))
    }

    /// Returns whether an ancestor of the slice replays parked events, which come first.
    pub(super) async fn ancestors_replay(&self) -> Result<bool, Ended> {
        let Held { inner, names, slot, ancestors, .. } = &*self.held;
        for (slice, _) in ancestors {
            let key = names.slice(Slot { slice: *slice, ..*slot });
            if self.held.persistently(|| read::<SliceState>(&*inner.store, &key)).await?.value.replay {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether it is time to replay the parked events.
    pub(super) fn may_replay(&self) -> bool {
        self.held.state.replay && self.held.inner.settings.clock.monotonic() >= self.next_replay.at
    }

    /// Replays the parked events in order. After a failure, the later events of the stream remain parked, as do those
    /// of a stream with parked events in an ancestor.
    ///
    /// After transient errors, the replay is repeated later. In the meantime, the slice continues: an operator may have
    /// parked an event for this purpose.
    pub(super) async fn replay_parked(&mut self) -> Result<(), Ended> {
        self.parked_before = self.streams_parked_before().await?;
        let (mut failing, mut is_delayed) = (HashSet::new(), false);
        let mut after = None;
        loop {
            let some = self.parked_after(after).await?;
            let Some((last, _)) = some.last() else { break };
            after = Some(last.clone());
            for (name, parked) in &some {
                if self.held.running.stop.is_set() {
                    return Err(Ended::Released);
                }
                let stream = parked.stream()?;
                let replayed = if let Some(scheduled) = &parked.scheduled {
                    let (event, ctx) = timeout::event(scheduled, stream.clone(), self.held.slot.slice);
                    self.replay(name, parked, &event, ctx).await?
                } else if self.parked_before.contains(&stream) || failing.contains(&stream) {
                    Replayed::Failed
                } else {
                    self.replay_event(name, parked, &stream).await?
                };
                is_delayed |= replayed == Replayed::Later;
                if replayed != Replayed::Done && parked.scheduled.is_none() {
                    failing.insert(stream);
                }
            }
        }
        self.parked = failing;
        if is_delayed {
            self.delay_replay();
            return Ok(());
        }
        self.next_replay = NextReplay::default();
        let next = SliceState { replay: false, ..self.held.state.clone() };
        self.held.write(next, Vec::new()).await
    }

    fn delay_replay(&mut self) {
        let settings = &self.held.inner.settings;
        let delayed = self.next_replay.delayed.saturating_add(1);
        let delay = match delayed.checked_sub(QUICK_REPLAYS) {
            None | Some(0) => settings.retry.delay_after(delayed),
            Some(more) => settings.restart.equal_jitter_delay_after(more),
        };
        let at = settings.clock.monotonic().saturating_add(delay);
        self.next_replay = NextReplay { delayed, at };
        let Slot { build, slice } = self.held.slot;
        tracing::warn!(
            projection = self.held.inner.name,
            build,
            slice = slice.get(),
            ?delay,
            "the replay of parked events waits for a transient error to pass"
        );
    }

    /// Replays a parked event.
    async fn replay_event(
        &mut self,
        name: &str,
        parked: &Parked,
        stream: &StreamId,
    ) -> Result<Replayed, Ended> {
        let index = parked.event.version.since(parked.first) as usize;
        let (event, ctx) = match self.entry(parked, stream).await? {
            Ok(entry) if index < entry.commit.events.len() => {
                (entry.commit.events[index].clone(), EventContext::of(&entry, index, self.held.slot.slice))
            }
            Ok(_) => return self.keep_parked(name, parked, missing("its commit has fewer events")).await,
            Err(reason) => return self.keep_parked(name, parked, missing(&reason)).await,
        };
        self.replay(name, parked, &event, ctx).await
    }

    /// Replays a parked event or timeout.
    async fn replay(
        &mut self,
        name: &str,
        parked: &Parked,
        event: &EventData,
        ctx: EventContext,
    ) -> Result<Replayed, Ended> {
        let mut ctx = ctx.after_parking();
        ctx.set_lease(&self.held.lease);
        let key = DocumentKey::new(self.held.names.parked(self.held.slot), name);
        // Added before the event, so that both fit into one transaction; nothing else is pending.
        self.pending.changes.push(DocumentChange::delete(key));
        let handled = match self.try_handle(event, &ctx).await {
            // What a publisher sends is a part of it.
            Ok(Handled::Done) => self.projection.flush().await.map(|()| Handled::Done),
            handled => handled,
        };
        match handled {
            Ok(Handled::Done) => self.pending.resumed += 1,
            Ok(Handled::Crowded) => unreachable!("nothing is pending"),
            Err(ProjectError::Lost) => return Err(Ended::Lost),
            Err(error) if error.is_transient() => {
                tracing::debug!(event = %parked.event, error = error_text(&error), "a parked event has to wait");
                self.discard_pending()?;
                return Ok(Replayed::Later);
            }
            Err(error) => {
                self.discard_pending()?;
                let unpublished = FailedEvent::unpublished(&error);
                let error = unpublished.map_or_else(|| error_text(&error), |(_, error)| error);
                return self.keep_parked(name, parked, error).await;
            }
        }
        match self.checkpoint().await {
            Ok(()) => Ok(Replayed::Done),
            Err(Ended::Rejected(failure)) => {
                self.discard_pending()?;
                self.keep_parked(name, parked, failure.error).await
            }
            Err(ended) => Err(ended),
        }
    }

    /// Keeps an event or timeout parked with a new error.
    async fn keep_parked(&mut self, name: &str, parked: &Parked, error: String) -> Result<Replayed, Ended> {
        let key = DocumentKey::new(self.held.names.parked(self.held.slot), name);
        let again = Parked { error, ..parked.clone() };
        self.pending.changes = vec![DocumentChange::put(key, encode(&again)?)];
        self.checkpoint().await?;
        Ok(Replayed::Failed)
    }

    /// Returns the commit of a parked event as in the feed, or the reason why it cannot be read.
    async fn entry(&self, parked: &Parked, stream: &StreamId) -> Result<Result<FeedEntry, String>, Ended> {
        let read = Read::all(stream.clone()).after(parked.first.previous()).until(parked.first);
        let store = &self.held.inner.store;
        let pages = self
            .held
            .persistently(|| EventStore::read(&**store, read.clone()).try_collect::<Vec<_>>().boxed());
        let commit = match pages.await {
            Ok(pages) => pages.into_iter().flat_map(|page| page.commits).next(),
            Err(Ended::Error(error)) => return Ok(Err(error_text(&error))),
            Err(ended) => return Err(ended),
        };
        let Some(commit) = commit.filter(|commit| commit.first == parked.first) else {
            return Ok(Err("its commit is gone".to_owned()));
        };
        if parked.commit.is_some_and(|id| id != commit.id) {
            return Ok(Err("another commit is in its place".to_owned()));
        }
        let before = parked.event.version.since(parked.first);
        let position = Position::new(parked.event.position.get().saturating_sub(before));
        Ok(Ok(FeedEntry::new(position, stream.clone(), commit)))
    }

    async fn parked_after(&self, after: Option<String>) -> Result<Vec<(String, Parked)>, Ended> {
        let Held { inner, names, slot, .. } = &*self.held;
        self.held.persistently(|| parked(&*inner.store, names, *slot, after.clone())).await
    }
}

/// Returns the error text for a parked event that cannot be read.
fn missing(reason: &str) -> String {
    format!("the event cannot be read any more: {reason}; restore it, or discard it with `discard_parked`")
}
