//! The store: the contracts of `es-core`, on a table and its feed.

mod builder;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TableDescription;
use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use es_core::feed::{Feed, FeedEnd, FeedPage, FeedRead, Slice, SliceTree, Slices};
use es_core::snapshot::Snapshot;
use es_core::store::{
    Append, AppendError, Appended, Claim, Commit, EventStore, Head, Holder, IdempotencyKey,
    IdempotencyLookup, NewCommit, Page, Read, SetupKind, StoreIdentity, StoredKey, WriteError, WriteSet,
    Written,
};
use es_core::{Cost, StoreError, StreamId, Version};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::FutureExt;

#[cfg(feature = "embedded")]
use crate::embedded::Engine;
use crate::feed::TableFeed;
use crate::streams::item::commit_items;
use crate::streams::objects::LargePayloads;
use crate::table::admin::TableOptions;
use crate::table::{Item, Table, item_size};

pub use builder::DynamoStoreBuilder;

/// Returns the write units of items that are written without a transaction.
fn units(items: &[Item]) -> u64 {
    items.iter().map(|item| item_size(item).div_ceil(1024)).sum()
}

/// An event store in a DynamoDB table. Clones share the table, the feed, and the clients.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), es_core::StoreError> {
/// use es_dynamo::DynamoStore;
///
/// // On a laptop and in tests. `DynamoStore::from_env()` uses AWS.
/// let store = DynamoStore::embedded().await?;
/// # let _ = store;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// # Requests
///
/// | operation | requests | kind |
/// |---|---|---|
/// | append by a repository | 1 | `PutItem`, if the version is free |
/// | load | 1 for each MB | `Query`, strongly consistent, from the newest snapshot |
/// | append at a version that was not loaded | 2 | `Query` of the last commit, `PutItem` |
/// | write several streams, a claim, or an idempotency key | 1 | `TransactWriteItems`, at twice the units |
/// | append with an event over 400 KB | 1, and 1 for each object | `TransactWriteItems`, at twice the units, and a put into the payload store |
/// | write a snapshot | 1 | `PutItem`, if it is newer |
/// | read a document, list documents | 1 | `GetItem`, `Query` |
/// | change one document, several documents | 1 | `PutItem` or `DeleteItem`, `TransactWriteItems` |
///
/// A commit is one item. Its sort key is the version of its first event, so that writers that start from the same
/// version collide. Items of commits are not changed, except by deleting, archiving, or restoring the stream. A commit of
/// more than 400 KB, the maximum size of an item, is split into several items, up to 4 MB in total, which are written in
/// one transaction at twice the units.
///
/// # Lost responses
///
/// If the response to a write is lost, the SDK or the repository retries it. The condition of the retry then fails on
/// the existing item, which is returned with the error and recognized by its commit id.
///
/// If the retries are refused instead, for example because the credentials have expired in the meantime, the error is
/// [`StoreError::Unavailable`], and [`is_outcome_unknown`](StoreError::is_outcome_unknown) returns `true`: the store
/// tracks all attempts, including those of the SDK. A response that is not from DynamoDB, such as the error page or the
/// empty `200` of a gateway, counts as lost.
#[derive(Clone)]
pub struct DynamoStore {
    pub(crate) table: Arc<Table>,
    pub(crate) feed: Arc<TableFeed>,
}

impl DynamoStore {
    /// Returns a builder for a store.
    pub fn builder() -> DynamoStoreBuilder {
        DynamoStoreBuilder::new()
    }

    /// Opens a store on Amazon DynamoDB, configured by the environment.
    ///
    /// Credentials, region, and endpoint come from the standard sources: environment variables, profiles, the role of
    /// the container or of the instance
    /// ([documentation](https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html)). The
    /// environment variable `ES_DYNAMO_TABLE` sets the table (default: `events`), which must exist: see
    /// [`create_table`](Self::create_table).
    ///
    /// The timeouts are 2 s for a connection, 5 s for an attempt, and 30 s for all attempts of a request. The
    /// [`builder`](Self::builder) can change them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if DynamoDB does not allow the name of the table.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env() -> Result<Self, StoreError> {
        Self::builder().from_env().await.build()
    }

    /// Creates a store in memory, on an embedded DynamoDB engine.
    ///
    /// # Errors
    ///
    /// [`StoreError::Backend`] if the engine cannot be started.
    #[cfg(feature = "embedded")]
    #[cfg_attr(docsrs, doc(cfg(feature = "embedded")))]
    pub async fn embedded() -> Result<Self, StoreError> {
        Engine::in_memory()?.store().await
    }

    /// Opens a store in a file, on an embedded DynamoDB engine. The file is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the file cannot be opened, is not a database of the engine, or has a table of another
    /// shape. [`StoreError::Backend`] if the file is damaged or the disk is full.
    #[cfg(feature = "embedded")]
    #[cfg_attr(docsrs, doc(cfg(feature = "embedded")))]
    pub async fn embedded_at(path: impl AsRef<std::path::Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        // Opening may block on a lock of another program.
        let opened = tokio::task::spawn_blocking(|| Engine::in_file(path)).await;
        opened.map_err(|error| StoreError::Backend(error.into()))??.store().await
    }

    /// Creates the table with on-demand capacity, and waits until it is active. Verifies an existing table.
    ///
    /// A new table on AWS has point-in-time recovery and deletion protection, unless
    /// [`create_table_with`](Self::create_table_with) turns them off.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the table exists and has another shape, or if the client may not create it.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        self.create_table_with(TableOptions::on_demand()).await
    }

    /// Creates the table with options; see [`create_table`](Self::create_table).
    ///
    /// # Errors
    ///
    /// As [`create_table`](Self::create_table).
    pub async fn create_table_with(&self, options: TableOptions) -> Result<(), StoreError> {
        let is_ours = self.table.create(options, self.feed.needs_stream()).await?;
        #[cfg(feature = "embedded")]
        if is_ours && let Some(outbox) = &self.feed.outbox {
            outbox.create().await?;
            self.table.disable_stream().await?;
        }
        #[cfg(not(feature = "embedded"))]
        let _ = is_ours;
        self.verify().await?;
        self.feed.index().await.map(drop)
    }

    /// Verifies the table: its keys, its stream, and its time to live. Also verifies that the feed's pages were written
    /// with the current number of initial slices.
    ///
    /// On AWS, it also logs a warning if point-in-time recovery or deletion protection is off.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the table differs: the error lists every difference and how to fix it.
    /// [`StoreError::Corrupt`] if the settings of the feed were changed.
    pub async fn verify_table(&self) -> Result<(), StoreError> {
        let table = self.verify().await?;
        self.table.warn_if_unprotected(&table).await;
        Ok(())
    }

    /// Deletes the table with all events, and waits until it is gone.
    ///
    /// Only a table of the framework without deletion protection is deleted. To use the name again, build another
    /// store, because the feed of this one remembers the deleted table.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the table does not exist, has another shape, has no feed, which `create_table` creates,
    /// or has deletion protection. Nothing was deleted then.
    pub async fn delete_table(self) -> Result<(), StoreError> {
        let table = self.table.described().await?;
        let mut obstacles = self.table.differences(&table, self.feed.needs_stream()).await?;
        if obstacles.is_empty() && self.feed.stored_settings().await?.is_none() {
            obstacles.push("it has no feed, so it is not that of an event store".to_owned());
        }
        if table.deletion_protection_enabled == Some(true) {
            obstacles.push("it has deletion protection: turn it off if all events may be lost".to_owned());
        }
        if !obstacles.is_empty() {
            let (name, obstacles) = (&self.table.name, obstacles.join("; "));
            return Err(StoreError::setup(format!("the table `{name}` is not deleted: {obstacles}"), None));
        }
        self.table.delete_table().await
    }

    /// Verifies the table, and returns its description.
    async fn verify(&self) -> Result<TableDescription, StoreError> {
        let table = self.table.described().await?;
        #[cfg_attr(not(feature = "embedded"), allow(unused_mut))]
        let mut differences = self.table.differences(&table, self.feed.needs_stream()).await?;
        #[cfg(feature = "embedded")]
        if let Some(outbox) = &self.feed.outbox
            && !outbox.is_created().await?
        {
            differences.push("it has no outbox: call `DynamoStore::create_table`".to_owned());
        }
        if differences.is_empty() {
            self.feed.verify().await?;
            return Ok(table);
        }
        Err(StoreError::setup_of(
            SetupKind::Storage,
            format!(
                "the table `{}` cannot be used as an event store: {}",
                self.table.name,
                differences.join("; ")
            ),
            None,
        ))
    }

    /// Returns the store's client for DynamoDB.
    #[must_use]
    #[expect(clippy::misnamed_getters, reason = "the internal client does not decode all responses")]
    pub fn client(&self) -> &Client {
        &self.table.given
    }

    /// Returns the client for DynamoDB Streams that an [`Indexer`](crate::Indexer) uses, if there is one.
    #[cfg(feature = "indexer")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indexer")))]
    #[must_use]
    pub fn streams_client(&self) -> Option<&aws_sdk_dynamodbstreams::Client> {
        self.feed.streams.as_ref()
    }

    /// Returns the write units that a commit takes if it is written alone, without a transaction: one for each KB of
    /// its items. Written with claims or an idempotency key, it takes twice as many.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] if the commit is larger than the store accepts.
    pub fn write_units(&self, stream: &StreamId, commit: &Commit) -> Result<u64, StoreError> {
        let new = NewCommit::new(commit.id, commit.time, commit.events.clone())
            .with_metadata((*commit.metadata).clone());
        let large = match commit_items(stream, commit.first, &new, &[], &LargePayloads::default()) {
            Ok(items) => {
                let transaction = if items.len() > 1 { 2 } else { 1 };
                return Ok(units(&items) * transaction);
            }
            Err(error) => self.table.objects.as_ref().ok_or(error)?.sample(stream, commit.first, &new)?,
        };
        // One more unit for the check of each object, also twice.
        let items = commit_items(stream, commit.first, &new, &[], &large)?;
        Ok(2 * (units(&items) + large.count() as u64))
    }

    /// Lists all claims and idempotency records, in no particular order: for copies of the store. Scans the whole
    /// table, with strongly consistent reads.
    ///
    /// The list ends with the first error: [`StoreError`] if a page cannot be read or an item cannot be decoded.
    pub fn stored_keys(&self) -> BoxStream<'_, Result<StoredKey, StoreError>> {
        self.table.stored_keys()
    }

    /// Returns the name of the table.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.table.name
    }
}

#[async_trait]
impl EventStore for DynamoStore {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        let appended = self.table.append(append).await?;
        self.feed.appended(append, &appended);
        Ok(appended)
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let written = self.table.write(set).await?;
        for (append, appended) in set.appends().iter().zip(&written.appended) {
            self.feed.appended(append, appended);
        }
        Ok(written)
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.table.claim_holder(claim.checked()?).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.table.idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        StoreIdentity::of(&self.table)
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        self.table.read(read)
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.table.head(stream).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.table.write_snapshot(stream, snapshot, replaces).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.table.erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        let restored = self.table.restore(commits, end).await?;
        self.feed.appended(end, &restored);
        Ok(restored)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(task));
            return;
        }
        // The SDK needs tokio, so the task gets a new runtime if the caller has none.
        std::thread::spawn(|| match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(task),
            Err(error) => tracing::warn!(%error, "dropped a background task: cannot start a tokio runtime"),
        });
    }
}

#[async_trait]
impl Documents for DynamoStore {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.table.document(key.checked()?).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        self.table.documents(query.checked()?).await
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        self.table.change(set.checked()?).await
    }
}

/// # Requests
///
/// | operation | requests | kind |
/// |---|---|---|
/// | read from a slice | 1, and 1 for each 100 commits | `Query` of pages, `BatchGetItem` of the commits that match the filter, both eventually consistent |
/// | read from a position within a page, without an anchor | 1 more | `Query` of that page |
/// | get the end of a slice | 1 | `Query` of one item, strongly consistent |
/// | get the indexed version of a stream | 1 if an indexer runs in this process, otherwise 2 or more | `Query` of new pages; otherwise the newest pages, and the summary |
///
/// An `Indexer`, or a [Lambda function](crate::lambda), adds commits from the table's stream to the feed.
#[async_trait]
impl Feed for DynamoStore {
    async fn slices(&self) -> Result<Slices, StoreError> {
        Ok(self.feed.index().await?.slices())
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        self.feed.index().await?.tree(&*self.feed).await
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        self.feed.index().await?.split(&*self.feed, slice).await
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        self.feed.read_feed(read).await
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.feed.index().await?.end(&*self.feed, slice).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.feed.index().await?.indexed(&*self.feed, stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.feed.grown.listen().boxed()
    }
}

impl fmt::Debug for DynamoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoStore").field("table", &self.table.name).finish_non_exhaustive()
    }
}

#[cfg(feature = "embedded")]
impl Engine {
    /// Returns a store on this engine, and creates its table.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the engine has a table of another shape.
    pub async fn store(&self) -> Result<DynamoStore, StoreError> {
        let store = DynamoStore::builder().engine(self).build()?;
        // The engine has no backups, and a file can be deleted in any case.
        let options = TableOptions::on_demand().point_in_time_recovery(false).deletion_protection(false);
        store.create_table_with(options).await?;
        Ok(store)
    }
}
