//! The record of the events that the handlers of a slice accept, to detect events that were passed over.
//!
//! Events that a projection does not list are passed over. While two versions of the code run, as in a rolling
//! deployment, the older one passes over events that only the newer one lists. Each slice therefore has a
//! [`Record`] of the accepted events, and up to which position they were accepted. Code that lists more events
//! finds the *gaps*, checks them for such events, and reports those found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::consumer::Consumer;
use super::held::Ended;
use super::state::{SliceState, decode, encode};
use crate::documents::DocumentChange;
use crate::feed::{EventFilter, FeedError, FeedRead, Position};
use crate::projection::{Projection, ProjectorError};
use crate::store::StoreError;
use crate::stream_id::StreamId;

/// The number of positions of a gap to check in one step.
const CHECKED_AT_ONCE: u32 = 1000;

/// An event that a projection has missed: it lists the event, but the code that ran when the event appeared in the
/// feed did not. This happens in rolling deployments, after a rollback, and if a handler is added later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct PassedOver {
    /// The name of the aggregate.
    pub aggregate: String,
    /// The stored name of the event.
    pub event: String,
    /// The position of the first such event.
    pub first: Position,
    /// The position up to which there may be more.
    pub through: Position,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { aggregate, event, first, through } = self;
        write!(
            f,
            "the event `{event}` of `{aggregate}` at position {first}, and perhaps others up to {through}"
        )
    }
}

/// A range of a slice that was processed by code that did not accept some events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Gap {
    /// The position after which it begins, or up to which it has been checked.
    pub(super) after: Position,
    /// Its last position.
    pub(super) through: Position,
    #[serde(flatten)]
    events: EventSet,
}

/// A set of events, or its complement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct EventSet {
    /// The stored event names by aggregate name.
    events: BTreeMap<String, BTreeSet<String>>,
    /// Whether the set is the complement.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    others: bool,
}

impl EventSet {
    fn contains(&self, aggregate: &str, name: &str) -> bool {
        self.is_listed(aggregate, name) != self.others
    }

    fn is_listed(&self, aggregate: &str, name: &str) -> bool {
        self.events.get(aggregate).is_some_and(|names| names.contains(name))
    }

    fn list(&mut self, aggregate: &str, name: &str) {
        self.events.entry(aggregate.to_owned()).or_default().insert(name.to_owned());
    }

    fn remove(&mut self, aggregate: &str, name: &str) {
        if self.others {
            self.list(aggregate, name);
        } else if let Some(names) = self.events.get_mut(aggregate) {
            names.remove(name);
            self.events.retain(|_, names| !names.is_empty());
        }
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.others
    }
}

impl fmt::Display for EventSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.events.iter().flat_map(|(aggregate, names)| {
            names.iter().map(move |name| format!("`{name}` of `{aggregate}`"))
        });
        let names = names.collect::<Vec<_>>().join(", ");
        match (self.others, names.is_empty()) {
            (false, _) => f.write_str(&names),
            (true, true) => f.write_str("all events"),
            (true, false) => write!(f, "all events but {names}"),
        }
    }
}

/// The extent to which an event was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Acceptance {
    /// The newest schema version that the code reads, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// The last position at which it was accepted, or `None` while it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Position>,
}

/// The events that the current code of a slice accepts, and those that earlier code accepted, up to a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Record {
    /// The position after which the build started.
    start: Position,
    /// By aggregate name and stored event name.
    events: BTreeMap<String, BTreeMap<String, Acceptance>>,
    /// The acceptance of all events that are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    others: Option<Acceptance>,
}

impl Record {
    /// Creates the record of a build that starts at `start`, with code that accepts `filter`.
    fn new(start: Position, filter: &EventFilter) -> Self {
        let mut record = Self { start, events: BTreeMap::new(), others: None };
        // There are no gaps at the start of the slice.
        record.accept(filter, start);
        record
    }

    /// Records that other code runs from position `at` on. Returns the gaps of the events that it accepts.
    fn accept(&mut self, filter: &EventFilter, at: Position) -> Vec<Gap> {
        let mut gaps = match filter.names() {
            Some(names) => self.accept_listed(names, at),
            None => self.accept_all(at),
        };
        gaps.retain(|gap| gap.after < gap.through);
        gaps
    }

    fn accept_listed<'a>(
        &mut self,
        names: impl Iterator<Item = (&'a str, &'a str, Option<u32>)>,
        at: Position,
    ) -> Vec<Gap> {
        let unlisted = self.others.as_ref().map_or(self.start, |others| others.until.unwrap_or(at));
        let listed = self.events.values_mut().flat_map(BTreeMap::values_mut);
        listed.chain(&mut self.others).for_each(|acceptance| _ = acceptance.until.get_or_insert(at));
        let mut gaps = BTreeMap::<Position, EventSet>::new();
        for (aggregate, name, version) in names {
            let accepted = Acceptance { version, until: None };
            let before =
                self.events.entry(aggregate.to_owned()).or_default().insert(name.to_owned(), accepted);
            let until = before.and_then(|before| before.until).unwrap_or(unlisted);
            gaps.entry(until).or_default().list(aggregate, name);
        }
        gaps.into_iter().map(|(after, events)| Gap { after, through: at, events }).collect()
    }

    fn accept_all(&mut self, at: Position) -> Vec<Gap> {
        let until = |acceptance: Acceptance| acceptance.until.unwrap_or(at);
        let unlisted = self.others.replace(Acceptance::default()).map_or(self.start, until);
        let mut others = EventSet { others: true, ..EventSet::default() };
        let mut gaps = BTreeMap::<Position, EventSet>::new();
        for (aggregate, events) in std::mem::take(&mut self.events) {
            for (name, acceptance) in events {
                others.list(&aggregate, &name);
                gaps.entry(until(acceptance)).or_default().list(&aggregate, &name);
            }
        }
        let listed = gaps.into_iter().map(|(after, events)| Gap { after, through: at, events });
        listed.chain([Gap { after: unlisted, through: at, events: others }]).collect()
    }
}

impl SliceState {
    /// Records an event that was passed over. Returns whether it is the first of its kind.
    fn pass_over(&mut self, stream: &StreamId, event: &str, first: Position, through: Position) -> bool {
        let is_same = |other: &&mut PassedOver| other.aggregate == stream.aggregate() && other.event == event;
        if let Some(known) = self.passed_over.iter_mut().find(is_same) {
            (known.first, known.through) = (known.first.min(first), known.through.max(through));
            return false;
        }
        let (aggregate, event) = (stream.aggregate().to_owned(), event.to_owned());
        self.passed_over.push(PassedOver { aggregate, event, first, through });
        true
    }
}

impl<P: Projection> Consumer<'_, '_, P> {
    /// Records the events that the code accepts, and the gaps left by other code.
    pub(super) async fn record_accepted(&mut self) -> Result<(), Ended> {
        let (at, key) = (self.held.state.position, self.held.names.accepted(self.held.slot));
        let store = &self.held.inner.store;
        let before: Option<Record> = match self.held.persistently(|| store.document(&key)).await? {
            Some(document) => Some(decode(&key, &document)?),
            None => None,
        };
        let filter = self.projection.filter();
        let (record, gaps) = match before.clone() {
            Some(mut record) => {
                let gaps = record.accept(filter, at);
                (record, gaps)
            }
            None => (Record::new(at, filter), Vec::new()),
        };
        if before.as_ref() == Some(&record) {
            return Ok(());
        }
        for Gap { after, through, events } in &gaps {
            tracing::info!(
                projection = self.held.inner.name,
                build = self.held.slot.build,
                slice = self.held.slot.slice.get(),
                %events,
                after = after.get(),
                through = through.get(),
                "other code that does not accept these events processed the slice; checking for events that were passed over"
            );
        }
        let mut next = self.held.state.clone();
        next.unchecked.extend(gaps);
        let change = DocumentChange::put(key, encode(&record)?);
        self.held.write(next, vec![change]).await
    }

    /// Checks a part of a gap for passed-over events. Returns whether there is more to check.
    pub(super) async fn check_gap(&mut self) -> Result<bool, Ended> {
        let unchecked = &self.held.state.unchecked;
        // Events that this code does not accept are left to code that does.
        let filtered = |gap: &Gap| {
            let filter =
                self.projection.filter().only(|aggregate, name| gap.events.contains(aggregate, name));
            (!filter.is_empty()).then_some(filter)
        };
        let found = unchecked.iter().enumerate().find_map(|(index, gap)| Some((index, filtered(gap)?)));
        let Some((index, filter)) = found else { return Ok(false) };
        let mut next = self.held.state.clone();
        let mut gap = next.unchecked.remove(index);
        let read = FeedRead::new(self.held.slot.slice, gap.after)
            .limit(CHECKED_AT_ONCE)
            .max_bytes(self.held.inner.settings.batch_bytes)
            .filter(filter.clone());
        let page = match self.held.persistently(|| self.held.inner.store.read_feed(&read)).await {
            Ok(page) => Some(page),
            Err(Ended::Error(ProjectorError::Store(StoreError::Feed(error)))) => match *error {
                FeedError::Missing(missing) => {
                    gap.after = missing.last_position();
                    None
                }
                error => return Err(StoreError::from(error).into()),
            },
            Err(ended) => return Err(ended),
        };
        for entry in page.iter().flat_map(|page| &page.entries) {
            for (position, event) in (entry.position.get()..).map(Position::new).zip(&entry.commit.events) {
                let (stream, name) = (&entry.stream, event.name());
                let is_in_gap = position > gap.after
                    && position <= gap.through
                    && filter.takes(stream, name)
                    && gap.events.contains(stream.aggregate(), name);
                if is_in_gap {
                    gap.events.remove(stream.aggregate(), name);
                    if next.pass_over(stream, name, position, gap.through) {
                        self.warn_passed_over(stream.aggregate(), name, position, gap.through);
                    }
                }
            }
        }
        if let Some(page) = page {
            gap.after = if page.is_last { gap.through } else { page.through };
        }
        if gap.after < gap.through && !gap.events.is_empty() {
            next.unchecked.insert(index, gap);
        }
        let has_more = !next.unchecked.is_empty();
        self.held.write(next, Vec::new()).await?;
        Ok(has_more)
    }

    fn warn_passed_over(&self, aggregate: &str, event: &str, first: Position, through: Position) {
        let advice = if P::IS_REPLAYABLE {
            "call `rebuild` to handle them"
        } else {
            "a process cannot be rebuilt: issue the missing commands"
        };
        tracing::warn!(
            projection = self.held.inner.name,
            build = self.held.slot.build,
            slice = self.held.slot.slice.get(),
            aggregate,
            event,
            first = first.get(),
            through = through.get(),
            "events were passed over by code that did not accept them: {advice}, then `dismiss_passed_over`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(names: &[&'static str]) -> EventFilter {
        EventFilter::none().with_events("order", names.iter().copied())
    }

    fn gap(after: u64, through: u64, names: &[&str]) -> Gap {
        let mut events = EventSet::default();
        names.iter().for_each(|name| events.list("order", name));
        Gap { after: Position::new(after), through: Position::new(through), events }
    }

    /// Returns the gaps of code that accepts these events from these positions on, one after the other.
    fn gaps(start: u64, versions: &[(u64, &EventFilter)]) -> Vec<Gap> {
        let mut record = Record::new(Position::new(start), versions[0].1);
        let after = |(at, filter): &(u64, &EventFilter)| record.accept(filter, Position::new(*at));
        versions[1..].iter().flat_map(after).collect()
    }

    #[test]
    fn the_gaps_of_an_event_are_where_other_code_was_at_work() {
        let (old, new) = (filter(&["Placed"]), filter(&["Placed", "Shipped"]));
        assert_eq!(gaps(0, &[(0, &old), (0, &new)]), [], "nothing has passed yet");
        assert_eq!(gaps(5, &[(5, &old), (9, &new)]), [gap(5, 9, &["Shipped"])]);
        assert_eq!(gaps(0, &[(0, &new), (7, &new)]), []);
        let alternating = [(0, &old), (10, &new), (20, &old), (30, &old), (40, &new), (50, &old), (50, &new)];
        assert_eq!(gaps(0, &alternating), [gap(0, 10, &["Shipped"]), gap(20, 40, &["Shipped"])]);
        let other = filter(&["Returned"]);
        let expected = [gap(0, 10, &["Returned"]), gap(10, 20, &["Placed", "Shipped"])];
        assert_eq!(gaps(0, &[(0, &new), (10, &other), (20, &new)]), expected);
    }

    #[test]
    fn code_that_accepts_all_events_has_gaps_of_all_others() {
        let (some, all) = (filter(&["Placed"]), EventFilter::all());
        let found = gaps(0, &[(0, &some), (10, &all)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].after, found[0].through), (Position::NONE, Position::new(10)));
        assert!(found[0].events.contains("order", "Shipped") && found[0].events.contains("stock", "Placed"));
        assert!(!found[0].events.contains("order", "Placed"));
        assert_eq!(found[0].events.to_string(), "all events but `Placed` of `order`");

        let other = filter(&["Shipped"]);
        assert_eq!(gaps(0, &[(0, &all), (10, &some), (20, &other)]), [gap(10, 20, &["Shipped"])]);
        let found = gaps(0, &[(0, &all), (10, &some), (20, &all)]);
        assert_eq!((found.len(), found[0].after), (1, Position::new(10)));
        assert!(!found[0].events.contains("order", "Placed"));
    }
}
