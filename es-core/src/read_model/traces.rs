//! A projection that finds everything that one command has caused.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::key::{index_place, key_text};
use super::kind::{KeyKind, RowKinds};
use super::{IndexPlace, ReadModel, ReadModelError, Row, RowIndex};
use crate::documents::Documents;
use crate::event::{CommitId, EventData};
use crate::feed::EventFilter;
use crate::metadata::Metadata;
use crate::projection::{EventContext, ProjectError, Projection, Stage};
use crate::stream_id::StreamId;
use crate::version::Version;

/// How many commits of a trace are read at once.
const COMMITS_AT_ONCE: u32 = 100;

/// A projection that lists the commits of each trace: of a command, and of all commands that its events have caused in
/// other aggregates and processes. Run it with a [`Projector`](crate::Projector), and read it anywhere.
///
/// Commits belong to the same trace if their metadata has the same correlation. Processes pass it on to the commands
/// that they send; elsewhere, use [`Metadata::following`]. A commit without a correlation begins a trace, whose name is
/// the commit's id.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::read_model::Traces;
/// use es_core::{MemoryStore, Metadata};
/// # #[event]
/// # pub struct OrderPlaced;
/// # #[derive(Aggregate, Debug, Default)]
/// # #[aggregate(name = "order", id = String, events(OrderPlaced))]
/// # pub struct Order;
/// # pub struct Place;
/// # #[handlers]
/// # impl Order {
/// #     #[apply]
/// #     fn order_placed(&mut self, _: &OrderPlaced) {}
/// #     #[handle]
/// #     fn place(&self, _: &Place) -> OrderPlaced { OrderPlaced }
/// # }
///
/// # futures_executor::block_on(async {
/// let store = MemoryStore::new();
/// let orders: Repository<Order> = Repository::new(store.clone());
/// let request = Metadata::new().with_correlation("request-7");
/// orders.with_metadata(request.clone()).execute("1001", Place).await?;
/// orders.with_metadata(request).execute("1002", Place).await?;
///
/// let traces = Traces::new(&store);
/// Projector::new(store, traces.clone()).run_until_caught_up().await?;
///
/// let commits = traces.commits("request-7", 100).await?;
/// let streams: Vec<_> = commits.iter().map(|commit| commit.stream.as_str()).collect();
/// assert_eq!(streams, ["order#1001", "order#1002"]);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Cost
///
/// Each commit is one small row with one index entry. The projection reads all events.
///
/// # Names
///
/// The name of the projection is `$traces`.
#[derive(Clone, Debug)]
pub struct Traces {
    commits: ReadModel<TracedCommit>,
}

/// A commit of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
#[non_exhaustive]
pub struct TracedCommit {
    /// The id of the commit.
    pub commit: CommitId,
    /// The name of the trace: the correlation, or the id of the commit that began it.
    pub trace: String,
    /// The stream.
    pub stream: StreamId,
    /// The version of the first event of the commit.
    pub first: Version,
    /// The time of the commit.
    pub time: DateTime<Utc>,
}

impl TracedCommit {
    const BY_TRACE: RowIndex<Self, String, (DateTime<Utc>, ())> = RowIndex::new(0);
}

// Not derived, so that compiler messages about other types do not mention it.
#[diagnostic::do_not_recommend]
impl Row for TracedCommit {
    const NAME: &'static str = "commits";
    type Key = CommitId;
    const INDEXES: &'static [&'static str] = &["by_trace"];

    fn key(&self) -> Result<String, ReadModelError> {
        key_text(Self::NAME, KeyKind::Text, &self.commit)
    }

    fn places(&self) -> Result<Vec<IndexPlace>, ReadModelError> {
        let place = index_place(Self::NAME, Self::kinds().of_index(0), &[&self.trace, &self.time])?;
        Ok(vec![place])
    }

    fn kinds() -> &'static RowKinds {
        static KINDS: std::sync::LazyLock<RowKinds> = std::sync::LazyLock::new(|| {
            RowKinds::new(KeyKind::Text, vec![vec![KeyKind::Text, KeyKind::Time]])
        });
        &KINDS
    }
}

impl Traces {
    /// Creates the projection on `store`.
    #[must_use]
    pub fn new(store: &(impl Documents + Clone)) -> Self {
        Self { commits: ReadModel::of::<Self>(store) }
    }

    /// Returns the commits of a trace in the order of their times, at most `limit`.
    ///
    /// `name` is a correlation, or the id of any commit or event of the trace. Returns nothing if there is no such
    /// trace, or if the projection has not handled it yet.
    ///
    /// # Errors
    ///
    /// [`ReadModelError`] if the rows cannot be read.
    pub async fn commits(&self, name: &str, limit: usize) -> Result<Vec<TracedCommit>, ReadModelError> {
        let commit = commit_of(name);
        let row = match commit {
            Some(commit) => self.commits.get(&commit).await?,
            None => None,
        };
        let name = row.map_or_else(|| trace_name(name), |row| row.trace);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let wanted = limit.saturating_sub(found.len()).min(COMMITS_AT_ONCE as usize) as u32;
            if wanted == 0 {
                return Ok(found);
            }
            let query = self.commits.find(TracedCommit::BY_TRACE, &name).limit(wanted).after(after);
            let page = query.page().await?;
            found.extend(page.rows);
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }
}

/// Returns the commit whose id, or the id of one of whose events, is `text`.
fn commit_of(text: &str) -> Option<CommitId> {
    let (commit, version) = text.split_once('/').unwrap_or((text, "1"));
    version.parse::<u64>().ok()?;
    CommitId::from_str(commit).ok()
}

/// Returns the name of the trace of a correlation. If that is the id of an event, its commit began the trace.
fn trace_name(correlation: &str) -> String {
    commit_of(correlation).map_or_else(|| correlation.to_owned(), |commit| commit.to_string())
}

/// Returns the name of the trace of a commit.
fn trace_of(commit: CommitId, metadata: &Metadata) -> String {
    metadata.correlation().map_or_else(|| commit.to_string(), trace_name)
}

#[diagnostic::do_not_recommend]
impl Projection for Traces {
    const NAME: &'static str = "$traces";

    fn filter(&self) -> EventFilter {
        EventFilter::all()
    }

    async fn handle(&mut self, _: &EventData, ctx: &EventContext) -> Result<(), ProjectError> {
        if ctx.version() != ctx.commit_first() {
            return Ok(());
        }
        let metadata: &Arc<Metadata> = ctx.metadata();
        let commit = ctx.event_id().commit();
        let row = TracedCommit {
            commit,
            trace: trace_of(commit, metadata),
            stream: ctx.stream().clone(),
            first: ctx.version(),
            time: ctx.time(),
        };
        self.commits.put(row).map_err(|error| ProjectError::Handler(error.into()))
    }

    fn stages(&mut self) -> Vec<&mut dyn Stage> {
        vec![&mut self.commits]
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_trace_is_named_after_the_commit_that_began_it() {
        let commit = CommitId::new(Uuid::from_u128(7));
        let other = CommitId::new(Uuid::from_u128(8));
        let of = |metadata: Metadata| trace_of(other, &metadata);
        assert_eq!(of(Metadata::new()), other.to_string());
        assert_eq!(of(Metadata::new().with_correlation("request-7")), "request-7");
        assert_eq!(of(Metadata::new().with_correlation("a/1")), "a/1");
        // What a process passes on for an event without a correlation.
        assert_eq!(of(Metadata::new().with_correlation(format!("{commit}/3"))), commit.to_string());
        assert_eq!(of(Metadata::new().with_correlation(commit.to_string())), commit.to_string());
    }
}
