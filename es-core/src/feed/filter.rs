//! Filters of the feed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Event, EventKind};
use crate::store::{Commit, is_erased, is_reserved};
use crate::stream_id::StreamId;

/// Selects the events that a consumer of the feed receives: all events, or certain events of certain aggregates.
///
/// The framework's own events, such as the one that [closes](crate::Repository::close) a stream, are selected only by
/// name, or by [`everything`](Self::everything).
///
/// ```
/// use es_core::StreamId;
/// use es_core::feed::EventFilter;
///
/// let filter = EventFilter::none().with_events("order", ["OrderPlaced", "OrderShipped"]);
/// assert!(filter.takes(&StreamId::new("order", "1001")?, "OrderPlaced"));
/// assert!(!filter.takes(&StreamId::new("bet", "1001")?, "OrderPlaced"));
/// # Ok::<_, es_core::stream_id::InvalidStreamId>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// By aggregate name; `None` selects all events.
    names: Option<Arc<HashMap<&'static str, Names>>>,
    /// Whether the selection of all events includes the framework's own.
    includes_own: bool,
}

/// The stored event names, each with the newest schema version that the code reads, if known.
type Names = HashMap<&'static str, Option<u32>>;

impl EventFilter {
    /// Selects all events of the application.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Selects all events, including the framework's own: for copies of a store.
    #[must_use]
    pub fn everything() -> Self {
        Self { names: None, includes_own: true }
    }

    /// Selects no events. Add some with [`with_events`](Self::with_events) or [`with_event`](Self::with_event).
    #[must_use]
    pub fn none() -> Self {
        Self { names: Some(Arc::default()), includes_own: false }
    }

    /// Adds the events of the aggregate `aggregate` with these stored names.
    #[must_use]
    pub fn with_events(
        mut self,
        aggregate: &'static str,
        names: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        if let Some(all) = &mut self.names {
            let known = Arc::make_mut(all).entry(aggregate).or_default();
            names.into_iter().for_each(|name| _ = known.entry(name).or_default());
        }
        self
    }

    /// Adds the events of type `E`, under its current and former names, of the aggregate `aggregate`.
    #[must_use]
    pub fn with_event<E: Event>(self, aggregate: &'static str) -> Self {
        self.with_kinds(aggregate, E::KINDS)
    }

    pub(crate) fn with_kinds(self, aggregate: &'static str, kinds: &'static [EventKind]) -> Self {
        kinds.iter().fold(self, |filter, kind| {
            let names = std::iter::once(kind.name()).chain(kind.aliases().iter().copied());
            let mut filter = filter.with_events(aggregate, names.clone());
            if let Some(known) = filter.names.as_mut().and_then(|all| Arc::make_mut(all).get_mut(aggregate)) {
                for name in names {
                    let newest = known.entry(name).or_default();
                    *newest = (*newest).max(Some(kind.version()));
                }
            }
            filter
        })
    }

    /// Returns the filter restricted to the events for which `is_kept` returns `true`, given the aggregate name
    /// and the stored event name. A filter for all events is unchanged.
    pub(crate) fn only(&self, is_kept: impl Fn(&str, &str) -> bool) -> Self {
        let kept = self.names.as_ref().map(|all| {
            let kept = all.iter().map(|(aggregate, names)| {
                let names = names.iter().filter(|(name, _)| is_kept(aggregate, name));
                (*aggregate, names.map(|(name, newest)| (*name, *newest)).collect::<Names>())
            });
            Arc::new(kept.filter(|(_, names)| !names.is_empty()).collect())
        });
        Self { names: kept, includes_own: self.includes_own }
    }

    /// Returns whether the filter selects no events.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.as_ref().is_some_and(|all| all.values().all(HashMap::is_empty))
    }

    /// Returns the selected events: the aggregate name, the stored event name, and the newest schema version that
    /// the code reads, if known. `None` selects all.
    pub(crate) fn names(&self) -> Option<impl Iterator<Item = (&str, &str, Option<u32>)>> {
        let all = self.names.as_ref()?.iter();
        Some(
            all.flat_map(|(aggregate, names)| {
                names.iter().map(|(name, newest)| (*aggregate, *name, *newest))
            }),
        )
    }

    /// Returns whether the code reads events with this stored name and schema version, if known.
    pub(crate) fn reads(&self, aggregate: &str, name: &str, version: u32) -> Option<bool> {
        Some((*self.names.as_ref()?.get(aggregate)?.get(name)?)? >= version)
    }

    /// Returns whether events of this stream with the stored name `name` match.
    #[must_use]
    pub fn takes(&self, stream: &StreamId, name: &str) -> bool {
        let Some(names) = &self.names else { return self.includes_own || !is_reserved(name) };
        names.get(stream.aggregate()).is_some_and(|names| names.contains_key(name))
    }

    /// Returns whether any event of a commit matches.
    #[must_use]
    pub fn takes_any(&self, stream: &StreamId, commit: &Commit) -> bool {
        commit.events.iter().any(|event| self.takes(stream, event.name()))
    }

    /// Returns the number of events of a commit that were erased and may have matched, because the filter selects
    /// events of their aggregate. Their names are not known any more.
    #[must_use]
    pub fn erased(&self, stream: &StreamId, commit: &Commit) -> u64 {
        let is_selected = self.names.as_ref().is_none_or(|names| names.contains_key(stream.aggregate()));
        let erased = commit.events.iter().filter(|event| is_erased(event));
        if is_selected { erased.count() as u64 } else { 0 }
    }
}
