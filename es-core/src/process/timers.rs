//! Timeouts of a process: stored as one document each, and read when they are due.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use crate::documents::{
    ChangeError, ChangeSet, Document, DocumentChange, DocumentCondition, DocumentKey, DocumentQuery,
    Documents,
};
use crate::event::{Event, without_values};
use crate::feed::Slice;
use crate::ids::IdSource;
use crate::projection::timeout::{self, Due, Scheduled, Timeout};
use crate::projection::{BoxError, EventContext};
use crate::repository::RetryPolicy;
use crate::store::{AdditionalWrite, StoreError};
use crate::stream_id::StreamId;

/// The number of timeouts handled before the events of the feed get their turn.
const SHARE: u32 = 25;

/// The number of pages to read for timeouts that are not waiting.
const MAX_PAGES: u32 = 4;

/// The interval at which the store is queried even if no timeout is known to be due.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(30);

/// The maximum delay before a waiting timeout is retried.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The bytes reserved for data that is stored with a timeout: the error if it is parked, and the condition of the
/// write.
const RESERVED_BYTES: u64 = 16 * 1024;

/// Encodes a timeout.
///
/// # Errors
///
/// An error if the timeout could not be decoded or parked when it is due.
pub(super) fn scheduled<E: Event>(
    due: DateTime<Utc>,
    key: String,
    stream: &StreamId,
    event: &E,
    ctx: &EventContext,
) -> Result<Scheduled, BoxError> {
    let data = event.to_data()?;
    if let Err(error) = E::decode(&data) {
        return Err(format!(
            "the timeout `{}` cannot be scheduled, because it could not be decoded when it is due ({error}): use \
             values that JSON can represent, unlike a NaN",
            data.name()
        )
        .into());
    }
    let scheduled = Scheduled {
        due: due.trunc_subsecs(3),
        key,
        stream: stream.to_string(),
        name: data.name().to_owned(),
        version: data.version(),
        payload: data.payload().to_owned(),
        commit: ctx.event_id().commit(),
        cause: ctx.event_id().version(),
        metadata: (**ctx.metadata()).clone(),
    };
    let (bytes, limit) =
        (serde_json::to_string(&scheduled)?.len() as u64, Document::MAX_BYTES - RESERVED_BYTES);
    if bytes > limit {
        return Err(StoreError::too_large(format!("the timeout `{}`", data.name()), bytes, limit).into());
    }
    Ok(scheduled)
}

/// The timeouts of one slice.
///
/// They are read in *rounds*. A round reads all timeouts that were due when it began, ordered by due time, a few
/// at a time. No timeout is read twice before every other one is read once, although those of blocked instances
/// remain.
#[derive(Debug)]
pub(super) struct Timers {
    collection: String,
    /// The time at which the next round begins; `None` for immediately.
    next: Option<DateTime<Utc>>,
    /// The time at which the last round began.
    looked: Option<DateTime<Utc>>,
    round: Option<Round>,
    /// The instances whose timeouts are waiting.
    waiting: HashMap<StreamId, Waiting>,
}

#[derive(Debug)]
struct Round {
    /// The time at which it began. Timeouts with a later due time belong to the next round.
    began: DateTime<Utc>,
    /// The name of the last document read.
    after: Option<String>,
    /// The time at which the next round should begin, as far as known.
    next: DateTime<Utc>,
}

#[derive(Debug)]
struct Waiting {
    attempts: u32,
    until: DateTime<Utc>,
}

impl Waiting {
    /// Returns whether the wait goes on at `now`. A wait that ends later than any wait began when the clock was ahead.
    fn lasts(&self, now: DateTime<Utc>) -> bool {
        self.until > now && (self.until - now).to_std().is_ok_and(|left| left <= MAX_WAIT)
    }
}

impl Timers {
    pub(super) fn new(process: &str, slice: Slice) -> Self {
        Self {
            collection: timeout::collection(process, slice),
            next: None,
            looked: None,
            round: None,
            waiting: HashMap::new(),
        }
    }

    /// Stores timeouts under a condition. Storing a timeout again replaces it.
    pub(super) async fn store(
        &mut self,
        store: &dyn Documents,
        ids: &dyn IdSource,
        timers: &[Scheduled],
        condition: &DocumentCondition,
    ) -> Result<(), ChangeError> {
        let mut changes = Vec::new();
        let mut bytes = 0;
        for timer in timers {
            let key = DocumentKey::new(&self.collection, timer.document());
            let body =
                serde_json::to_string(timer).map_err(|error| StoreError::invalid(without_values(&error)))?;
            let change = DocumentChange::put(key, body);
            let is_full = changes.len() == ChangeSet::MAX_CHANGES - 1
                || bytes + change.bytes() > ChangeSet::MAX_BYTES - RESERVED_BYTES;
            if is_full {
                self.write(store, ids, std::mem::take(&mut changes), condition).await?;
                bytes = 0;
            }
            bytes += change.bytes();
            changes.push(change);
            // Before the write, which may succeed without a response.
            self.look_at(timer.due);
        }
        self.write(store, ids, changes, condition).await
    }

    async fn write(
        &self,
        store: &dyn Documents,
        ids: &dyn IdSource,
        changes: Vec<DocumentChange>,
        condition: &DocumentCondition,
    ) -> Result<(), ChangeError> {
        let set = ChangeSet::new(ids.new_id())
            .with_changes(changes)
            .with_additional([AdditionalWrite::new(condition.clone())]);
        store.change(&set).await
    }

    /// Schedules the next round at `time`, or earlier if it is already scheduled.
    fn look_at(&mut self, time: DateTime<Utc>) {
        match &mut self.round {
            Some(round) => round.next = round.next.min(time),
            None => self.next = self.next.map(|next| next.min(time)),
        }
    }

    /// Queries the store again, because another worker may have stored timeouts.
    pub(super) fn look_again(&mut self) {
        self.look_at(DateTime::<Utc>::MIN_UTC);
    }

    /// Returns whether timeouts may be due at `now`.
    fn may_be_due(&self, now: DateTime<Utc>) -> bool {
        let is_fresh = self.looked.is_some_and(|looked| looked <= now && now - looked < LOOK_AGAIN);
        self.round.is_some() || !is_fresh || self.next.is_none_or(|next| next <= now)
    }

    /// Reads the next timeouts that are due at `now`.
    pub(super) async fn due(&mut self, store: &dyn Documents, now: DateTime<Utc>) -> Result<Due, StoreError> {
        let mut due = self.read_due(store, now).await?;
        due.next = self.next;
        Ok(due)
    }

    async fn read_due(&mut self, store: &dyn Documents, now: DateTime<Utc>) -> Result<Due, StoreError> {
        let mut due = Due::default();
        if !self.may_be_due(now) {
            return Ok(due);
        }
        let round = self.round.get_or_insert_with(|| {
            self.looked = Some(now);
            Round { began: now, after: None, next: DateTime::<Utc>::MAX_UTC }
        });
        for _ in 0..MAX_PAGES {
            let query = DocumentQuery::new(&self.collection).after(round.after.clone()).limit(SHARE);
            let page = store.documents(&query).await?;
            for (name, document) in page.documents {
                let timeout = Timeout::decode(DocumentKey::new(&self.collection, &name), &document)?;
                if timeout.due() > round.began {
                    let next = timeout.due();
                    self.end_round(next);
                    return Ok(due);
                }
                round.after = Some(name);
                match self.waiting.get(timeout.stream()) {
                    Some(waiting) if waiting.lasts(now) => round.next = round.next.min(waiting.until),
                    _ => due.timeouts.push(timeout),
                }
            }
            let Some(after) = page.next else {
                self.end_round(DateTime::<Utc>::MAX_UTC);
                return Ok(due);
            };
            round.after = Some(after);
            if due.timeouts.len() >= SHARE as usize {
                break;
            }
        }
        due.more = true;
        Ok(due)
    }

    fn end_round(&mut self, next: DateTime<Utc>) {
        if let Some(round) = self.round.take() {
            self.next = Some(round.next.min(next));
            // Entries that were not retried in this round are obsolete.
            let is_recent = |gap: TimeDelta| gap.abs().to_std().is_ok_and(|gap| gap < MAX_WAIT * 3);
            self.waiting.retain(|_, waiting| is_recent(waiting.until - round.began));
        }
    }

    /// Returns whether a timeout of the instance is waiting, so that later ones have to wait as well.
    pub(super) fn is_waiting(&self, instance: &StreamId, now: DateTime<Utc>) -> bool {
        self.waiting.get(instance).is_some_and(|waiting| waiting.lasts(now))
    }

    /// Records that the timeouts of an instance wait for another reaction.
    pub(super) fn wait(&mut self, instance: &StreamId, now: DateTime<Utc>) {
        let waiting = self.waiting.entry(instance.clone()).or_insert(Waiting { attempts: 0, until: now });
        waiting.attempts += 1;
        let policy =
            RetryPolicy::default().with_base_delay(Duration::from_millis(100)).with_max_delay(MAX_WAIT);
        waiting.until = now + policy.delay_after(waiting.attempts);
        let until = waiting.until;
        self.look_at(until);
    }

    /// Records that the timeouts of an instance no longer wait.
    pub(super) fn go_on(&mut self, instance: &StreamId) {
        self.waiting.remove(instance);
    }
}
