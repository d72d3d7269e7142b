//! Events that come later: durable, one document each.

use std::fmt;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use crate::documents::{
    ChangeError, ChangeSet, DocumentChange, DocumentCondition, DocumentKey, DocumentQuery, Documents,
    ExpectedDocument,
};
use crate::event::{CommitId, Event, EventData, EventId};
use crate::feed::Slice;
use crate::ids::IdSource;
use crate::metadata::Metadata;
use crate::projection::{BoxError, EventContext, ProjectError};
use crate::store::{JoinedWrite, StoreError};
use crate::stream_id::StreamId;
use crate::version::Version;

/// How many timeouts are read at once.
const PAGE: u32 = 50;

/// An event that a process has scheduled for itself.
#[derive(Clone, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Timer {
    due: DateTime<Utc>,
    /// Identifies it: the key of the reaction that scheduled it, and its number there.
    key: String,
    /// The id of the instance, as text.
    instance: String,
    name: String,
    version: u32,
    payload: String,
    /// The event that the reaction was to.
    commit: CommitId,
    cause: Version,
    metadata: Metadata,
}

impl Timer {
    pub(super) fn new<E: Event>(
        due: DateTime<Utc>,
        key: String,
        instance: &impl fmt::Display,
        event: &E,
        ctx: &EventContext,
    ) -> Result<Self, BoxError> {
        let data = event.to_data()?;
        Ok(Self {
            due: due.trunc_subsecs(3),
            key,
            instance: instance.to_string(),
            name: data.name().to_owned(),
            version: data.version(),
            payload: data.payload().to_owned(),
            commit: ctx.event_id().commit(),
            cause: ctx.event_id().version(),
            metadata: (**ctx.metadata()).clone(),
        })
    }

    /// The event, and its context: in the stream of the instance, at the time when it was due.
    pub(super) fn event(&self, state: &str, slice: Slice) -> Result<(EventData, EventContext), StoreError> {
        let stream = StreamId::new(state, &self.instance)?;
        let id = EventId::new(self.commit, self.cause);
        let ctx = EventContext::timeout(stream, slice, id, self.due, self.metadata.clone(), &self.key);
        Ok((EventData::new(self.name.clone(), self.version, self.payload.clone()), ctx))
    }
}

/// The timeouts that a slice of the feed has led to.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    collection: String,
    /// When the next one is due: `None` when nobody has looked yet.
    next: Option<DateTime<Utc>>,
}

impl Timers {
    pub(super) fn new(process: &str, slice: Slice) -> Self {
        Self { collection: format!("process#{process}#timers#{slice}"), next: None }
    }

    fn key(&self, timer: &Timer) -> DocumentKey {
        // Sorted by the time.
        DocumentKey::new(
            &self.collection,
            format!("{:020}#{}", timer.due.timestamp_millis().max(0), timer.key),
        )
    }

    /// Stores timeouts, on a condition; the same again is no other.
    pub(super) async fn store(
        &mut self,
        store: &dyn Documents,
        ids: &dyn IdSource,
        timers: &[Timer],
        condition: &DocumentCondition,
    ) -> Result<(), BoxError> {
        for some in timers.chunks(ChangeSet::MAX_CHANGES - 1) {
            let mut set = ChangeSet::new(ids.new_id()).join([JoinedWrite::new(condition.clone())]);
            for timer in some {
                set = set.put(self.key(timer), ExpectedDocument::Any, serde_json::to_string(timer)?);
                self.next = self.next.map(|next| next.min(timer.due));
            }
            store.change(&set).await?;
        }
        Ok(())
    }

    /// Whether there may be any due at `now`.
    pub(super) fn may_be_due(&self, now: DateTime<Utc>) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// The next timeouts that are due at `now`, in the order of their times; empty when there are none, and
    /// then it is known when to ask again.
    pub(super) async fn due(
        &mut self,
        store: &dyn Documents,
        now: DateTime<Utc>,
    ) -> Result<Vec<Timer>, BoxError> {
        let page = store.documents(&DocumentQuery::new(&self.collection).limit(PAGE)).await?;
        let mut due = Vec::new();
        for (_, document) in page.documents {
            let timer: Timer = serde_json::from_str(&document.body)?;
            if timer.due > now {
                self.next = Some(timer.due);
                return Ok(due);
            }
            due.push(timer);
        }
        if due.is_empty() {
            // Nothing at all: whatever comes is stored by this process.
            self.next = Some(DateTime::<Utc>::MAX_UTC);
        }
        Ok(due)
    }

    /// Deletes a timeout that is done, if the slice is still this worker's: once it is gone, nobody goes on with
    /// a turn that has begun for it.
    pub(super) async fn done(
        &self,
        store: &dyn Documents,
        ids: &dyn IdSource,
        timer: &Timer,
        lease: &DocumentCondition,
    ) -> Result<(), ProjectError> {
        let set = ChangeSet::new(ids.new_id())
            .with([DocumentChange::delete(self.key(timer))])
            .join([JoinedWrite::new(lease.clone())]);
        match store.change(&set).await {
            Ok(()) => Ok(()),
            Err(ChangeError::Refused) => Err(ProjectError::Lost),
            Err(error) => Err(ProjectError::Handler(error.into())),
        }
    }
}
