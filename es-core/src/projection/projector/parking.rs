//! Parked events (dead letters), and their replay.

use std::collections::HashSet;

use futures_util::{FutureExt, TryStreamExt};

use super::consumer::Consumer;
use super::failure::{FailedEvent, Parked};
use super::handling::Handled;
use super::held::{Ended, Held, Outage};
use super::state::{Names, SliceState, Slot, decode, encode, read};
use crate::documents::{DocumentChange, DocumentKey, DocumentQuery, Documents, pages};
use crate::error_text::error_text;
use crate::event::EventData;
use crate::feed::{FeedEntry, Position};
use crate::projection::{EventContext, ProjectError, Projection, ProjectorError, timeout};
use crate::store::{EventStore, Read};
use crate::stream_id::StreamId;
use crate::version::Version;

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

    /// Replays the parked events in order. After a failure, the later events of the stream remain parked, as do those
    /// of a stream with parked events in an ancestor.
    pub(super) async fn replay_parked(&mut self) -> Result<(), Ended> {
        self.parked_before = self.streams_parked_before().await?;
        let mut failing = HashSet::new();
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
                if let Some(scheduled) = &parked.scheduled {
                    let (event, ctx) = timeout::event(scheduled, stream, self.held.slot.slice);
                    self.replay(name, parked, &event, ctx).await?;
                } else if self.parked_before.contains(&stream)
                    || (!failing.contains(&stream) && !self.replay_event(name, parked, &stream).await?)
                {
                    failing.insert(stream);
                }
            }
        }
        self.parked = failing;
        let next = SliceState { replay: false, ..self.held.state.clone() };
        self.held.write(next, Vec::new()).await
    }

    /// Replays a parked event. Returns whether it is done.
    async fn replay_event(&mut self, name: &str, parked: &Parked, stream: &StreamId) -> Result<bool, Ended> {
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

    /// Replays a parked event or timeout. Returns whether it is done.
    async fn replay(
        &mut self,
        name: &str,
        parked: &Parked,
        event: &EventData,
        ctx: EventContext,
    ) -> Result<bool, Ended> {
        let mut ctx = ctx.after_parking();
        ctx.set_lease(&self.held.lease);
        let key = DocumentKey::new(self.held.names.parked(self.held.slot), name);
        // Added before the event, so that both fit into one transaction; nothing else is pending.
        self.pending.changes.push(DocumentChange::delete(key));
        let mut outage = Outage::default();
        loop {
            match self.try_handle(event, &ctx).await {
                Ok(Handled::Done) => {
                    self.pending.resumed += 1;
                    break;
                }
                Ok(Handled::Crowded) => unreachable!("nothing is pending"),
                Err(ProjectError::Lost) => return Err(Ended::Lost),
                Err(error) if error.is_transient() => {
                    // It is already parked, so there is nothing for an operator to decide.
                    let error = format!("{}: {}", parked.event, error_text(&error));
                    self.held.wait_out(&mut outage, error).await?;
                }
                Err(error) => {
                    if matches!(error, ProjectError::Interrupted(_)) {
                        self.renew()?;
                    }
                    return self.keep_parked(name, parked, error_text(&error)).await;
                }
            }
        }
        match self.checkpoint().await {
            Ok(()) => Ok(true),
            Err(Ended::Rejected(failure)) => {
                self.discard_pending()?;
                self.keep_parked(name, parked, failure.error).await
            }
            Err(ended) => Err(ended),
        }
    }

    /// Keeps an event or timeout parked with a new error.
    async fn keep_parked(&mut self, name: &str, parked: &Parked, error: String) -> Result<bool, Ended> {
        let key = DocumentKey::new(self.held.names.parked(self.held.slot), name);
        let again = Parked { error, ..parked.clone() };
        self.pending.changes = vec![DocumentChange::put(key, encode(&again)?)];
        self.checkpoint().await?;
        Ok(false)
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
