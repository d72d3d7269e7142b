//! The feed: all events of the table in slices, each of which is a [log].

#[cfg(feature = "indexer")]
pub(crate) mod committed;
mod copies;
mod gone;
#[cfg(feature = "indexer")]
pub(crate) mod indexer;
pub mod lambda;
pub(crate) mod log;
mod read;
pub(crate) mod reconciler;
mod table;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::StoreError;
use es_core::feed::Slices;
use es_core::store::{Append, Appended};
use event_listener::Event;
use tokio::sync::OnceCell;
use tracing::{Instrument, Span, field};

use self::log::hint::Hint;
use self::log::index::FeedIndex;
use self::log::settings::{DEFAULT_SLICES, Settings};
use self::log::writer::Indexed;
use crate::table::Table;

/// The feed of a table.
pub(crate) struct TableFeed {
    pub(crate) table: Arc<Table>,
    /// The number of initial slices that the application requires.
    slices: Option<Slices>,
    /// The maximum size in bytes of a commit that is copied into its page; 0 if none are.
    max_copy: u64,
    index: OnceCell<FeedIndex>,
    /// Notified when this process has added events to the feed.
    pub(crate) grown: Arc<Event>,
    /// The commits of this process.
    #[cfg(feature = "indexer")]
    pub(crate) committed: Arc<committed::Committed>,
    /// The client for the table's stream, if there is one.
    #[cfg(feature = "indexer")]
    pub(crate) streams: Option<aws_sdk_dynamodbstreams::Client>,
    /// On the embedded engine, the commits that are not in the feed yet.
    #[cfg(feature = "embedded")]
    pub(crate) outbox: Option<crate::embedded::Outbox>,
}

/// A feed to which commits are added.
#[async_trait]
pub(crate) trait Ingest: Send + Sync {
    /// Adds the commits of hints; see [`FeedIndex::submit`].
    async fn ingest(&self, hints: Vec<Hint>, linger: Duration) -> Result<Indexed, StoreError>;
}

#[async_trait]
impl Ingest for TableFeed {
    async fn ingest(&self, hints: Vec<Hint>, linger: Duration) -> Result<Indexed, StoreError> {
        if hints.is_empty() {
            return Ok(Indexed::default());
        }
        let span = IndexSpan::start(hints.len());
        let work = async { self.index().await?.submit(self, hints, linger).await };
        let outcome = work.instrument(span.span.clone()).await;
        span.end(&outcome);
        outcome
    }
}

/// The span of commits that are added to the feed. Its outcome is recorded once.
struct IndexSpan {
    span: Span,
    ended: bool,
}

impl IndexSpan {
    fn start(commits: usize) -> Self {
        let span = tracing::info_span!(
            "index",
            commits,
            outcome = field::Empty,
            events = field::Empty,
            pages = field::Empty
        );
        Self { span, ended: false }
    }

    fn end(mut self, outcome: &Result<Indexed, StoreError>) {
        self.ended = true;
        self.span.record("outcome", if outcome.is_ok() { "indexed" } else { "store error" });
        if let Ok(indexed) = outcome {
            self.span.record("events", indexed.events);
            self.span.record("pages", indexed.pages);
        }
    }
}

impl Drop for IndexSpan {
    fn drop(&mut self) {
        if !self.ended {
            self.span.record("outcome", if std::thread::panicking() { "panicked" } else { "dropped" });
        }
    }
}

impl TableFeed {
    pub(crate) fn new(table: Arc<Table>, slices: Option<Slices>, max_copy: u64) -> Self {
        Self {
            table,
            slices,
            max_copy,
            index: OnceCell::new(),
            grown: Arc::default(),
            #[cfg(feature = "indexer")]
            committed: Arc::default(),
            #[cfg(feature = "indexer")]
            streams: None,
            #[cfg(feature = "embedded")]
            outbox: None,
        }
    }

    /// Notifies the indexers of this process of the commits of a successful append.
    #[cfg_attr(not(feature = "indexer"), expect(unused_variables, clippy::unused_self))]
    pub(crate) fn appended(&self, append: &Append, appended: &Appended) {
        #[cfg(feature = "indexer")]
        self.committed.add(append, appended);
    }

    /// Returns whether the indexer follows the stream of the table. On the embedded engine, it reads an outbox.
    pub(crate) fn needs_stream(&self) -> bool {
        #[cfg(feature = "embedded")]
        return self.outbox.is_none();
        #[cfg(not(feature = "embedded"))]
        return true;
    }

    /// Returns the index of the feed. Creates the settings of the feed if it has none.
    pub(crate) async fn index(&self) -> Result<&FeedIndex, StoreError> {
        self.index
            .get_or_try_init(async || Ok(FeedIndex::new(self.settings().await?, Arc::clone(&self.grown))))
            .await
    }

    async fn settings(&self) -> Result<Settings, StoreError> {
        let settings = match self.stored_settings().await? {
            Some(settings) => settings,
            None => self.create_settings(Settings::new(self.slices.unwrap_or(DEFAULT_SLICES))).await?,
        };
        match self.slices.filter(|slices| *slices != settings.slices) {
            None => Ok(settings),
            Some(wanted) => Err(StoreError::invalid(format!(
                "the store's builder sets `slices` to {}, and the feed of the table `{}` began with {}: remove `slices` or \
                 set it to the existing number, and split slices to get more",
                wanted.count(),
                self.table.name,
                settings.slices.count(),
            ))),
        }
    }
}
