//! Which events a consumer takes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Event, EventKind};
use crate::store::Commit;
use crate::stream_id::StreamId;

/// Which events a consumer of the feed takes: all of them, or some of some aggregates.
///
/// ```
/// use es_core::StreamId;
/// use es_core::feed::EventFilter;
///
/// let filter = EventFilter::none().with("order", ["OrderPlaced", "OrderShipped"]);
/// assert!(filter.takes(&StreamId::new("order", "1001")?, "OrderPlaced"));
/// assert!(!filter.takes(&StreamId::new("bet", "1001")?, "OrderPlaced"));
/// # Ok::<_, es_core::InvalidStreamId>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// By the name of the aggregate; `None` for all events.
    names: Option<Arc<HashMap<&'static str, Names>>>,
}

/// The stored names of events, each with the newest schema version that the code reads, if it is known.
type Names = HashMap<&'static str, Option<u32>>;

impl EventFilter {
    /// Creates all events.
    #[must_use]
    pub fn all() -> Self {
        Self { names: None }
    }

    /// No events, to add to.
    #[must_use]
    pub fn none() -> Self {
        Self { names: Some(Arc::default()) }
    }

    /// The events with these stored names, of the aggregate with the name `aggregate`, too.
    #[must_use]
    pub fn with(mut self, aggregate: &'static str, names: impl IntoIterator<Item = &'static str>) -> Self {
        if let Some(all) = &mut self.names {
            let known = Arc::make_mut(all).entry(aggregate).or_default();
            names.into_iter().for_each(|name| _ = known.entry(name).or_default());
        }
        self
    }

    /// The events of type `E`, under whatever name they were stored, of the aggregate with the name `aggregate`, too.
    #[must_use]
    pub fn with_event<E: Event>(self, aggregate: &'static str) -> Self {
        self.with_kinds(aggregate, E::KINDS)
    }

    pub(crate) fn with_kinds(self, aggregate: &'static str, kinds: &'static [EventKind]) -> Self {
        kinds.iter().fold(self, |filter, kind| {
            let names = std::iter::once(kind.name()).chain(kind.aliases().iter().copied());
            let mut filter = filter.with(aggregate, names.clone());
            if let Some(known) = filter.names.as_mut().and_then(|all| Arc::make_mut(all).get_mut(aggregate)) {
                for name in names {
                    let newest = known.entry(name).or_default();
                    *newest = (*newest).max(Some(kind.version()));
                }
            }
            filter
        })
    }

    /// Only those of these events that `is_kept` keeps, by the name of the aggregate and the stored name. All events
    /// stay all events.
    pub(crate) fn only(&self, is_kept: impl Fn(&str, &str) -> bool) -> Self {
        let kept = self.names.as_ref().map(|all| {
            let kept = all.iter().map(|(aggregate, names)| {
                let names = names.iter().filter(|(name, _)| is_kept(aggregate, name));
                (*aggregate, names.map(|(name, newest)| (*name, *newest)).collect::<Names>())
            });
            Arc::new(kept.filter(|(_, names)| !names.is_empty()).collect())
        });
        Self { names: kept }
    }

    /// Returns whether no event is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.as_ref().is_some_and(|all| all.values().all(HashMap::is_empty))
    }

    /// Returns the events that are taken: the name of the aggregate, the stored name, and the newest schema
    /// version that the code reads, if it is known. `None` for all.
    pub(crate) fn names(&self) -> Option<impl Iterator<Item = (&str, &str, Option<u32>)>> {
        let all = self.names.as_ref()?.iter();
        Some(
            all.flat_map(|(aggregate, names)| {
                names.iter().map(|(name, newest)| (*aggregate, *name, *newest))
            }),
        )
    }

    /// Returns whether the code reads events with this stored name and schema version, if that is known.
    pub(crate) fn reads(&self, aggregate: &str, name: &str, version: u32) -> Option<bool> {
        Some((*self.names.as_ref()?.get(aggregate)?.get(name)?)? >= version)
    }

    /// Returns whether events with the stored name `name` of this stream are taken.
    #[must_use]
    pub fn takes(&self, stream: &StreamId, name: &str) -> bool {
        let Some(names) = &self.names else { return true };
        names.get(stream.aggregate()).is_some_and(|names| names.contains_key(name))
    }

    /// Returns whether any event of a commit is taken.
    #[must_use]
    pub fn takes_any(&self, stream: &StreamId, commit: &Commit) -> bool {
        commit.events.iter().any(|event| self.takes(stream, event.name()))
    }
}
