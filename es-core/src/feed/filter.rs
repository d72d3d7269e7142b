//! Which events a consumer takes.

use std::collections::{HashMap, HashSet};
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
    /// The stored names, by the name of the aggregate; `None` for all.
    names: Option<Arc<HashMap<&'static str, HashSet<&'static str>>>>,
}

impl EventFilter {
    /// All events.
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
            Arc::make_mut(all).entry(aggregate).or_default().extend(names);
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
            filter.with(aggregate, std::iter::once(kind.name()).chain(kind.aliases().iter().copied()))
        })
    }

    /// Whether events with the stored name `name` of this stream are taken.
    #[must_use]
    pub fn takes(&self, stream: &StreamId, name: &str) -> bool {
        let Some(names) = &self.names else { return true };
        names.get(stream.aggregate()).is_some_and(|names| names.contains(name))
    }

    /// Whether any event of a commit is taken.
    #[must_use]
    pub fn takes_any(&self, stream: &StreamId, commit: &Commit) -> bool {
        commit.events.iter().any(|event| self.takes(stream, event.name()))
    }
}
