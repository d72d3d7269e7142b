//! The store, and its builder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use es_core::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use es_core::feed::{Feed, FeedEnd, FeedPage, FeedRead, Slice, SliceTree, Slices};
use es_core::snapshot::Snapshot;
use es_core::store::{
    Append, AppendError, Appended, Claim, Commit, EventStore, Head, Holder, IdempotencyKey,
    IdempotencyLookup, Page, Read, StoreIdentity, StoredKey, WriteError, WriteSet, Written,
};
use es_core::{Cost, StoreError, StreamId, Version};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::PgPool;

use crate::database::{self, DEFAULT_TIMEOUT, Database};
use crate::feed::{self, FeedDelay, FeedState, Growth};
use crate::schema;

/// The default name of the schema.
const DEFAULT_SCHEMA: &str = "es";

/// An event store in a schema of a PostgreSQL database. Clones share the pool of connections.
///
/// # Statements
///
/// | operation | round trips | statements |
/// |---|---|---|
/// | append by a repository | 1 | `INSERT … ON CONFLICT DO NOTHING` |
/// | append that loses a race | 2 | the `INSERT`, and a `SELECT` of the winner |
/// | load | 1 for the first 500 commits, and 1 for each further 2,000; more if 16 MiB of events are reached before | `SELECT` of the snapshot and the commits after it |
/// | write several streams, a claim, or an idempotency key | 3 to 8 | a transaction with one `INSERT` for each kind of row |
/// | read a document, list documents | 1 | `SELECT` |
/// | change one document, several documents | 1, 4 | `INSERT`, `UPDATE`, or `DELETE`; a transaction |
/// | read the feed | 1 | `SELECT` |
///
/// [`Cost::requests`] counts statements, and a transaction as one. The reads that find out why a write was refused are
/// part of the write. Capacity units are zero.
///
/// # Lost responses
///
/// If the connection breaks, or no response arrives in time, while a statement that commits is in progress, the error
/// is [`StoreError::Unavailable`], and its [outcome is unknown](StoreError::is_outcome_unknown). Repeating the write
/// resolves it: a commit is recognized by its id.
///
/// The same holds for a statement on a connection that the application has left in an open transaction, where nothing
/// would commit it. The connection is closed. One more round trip checks this when a connection executes a statement for
/// the first times, before the server caches its plan.
#[derive(Clone)]
pub struct PostgresStore {
    database: Arc<Database>,
    feed: Arc<FeedState>,
}

/// Builds a [`PostgresStore`] on a pool of connections.
///
/// ```
/// # fn example(pool: sqlx::PgPool) -> Result<(), es_core::StoreError> {
/// use es_postgres::PostgresStore;
///
/// let store = PostgresStore::builder(pool).schema("orders").build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct PostgresStoreBuilder {
    pool: PgPool,
    schema: String,
    timeout: Duration,
    max_bytes: Option<u64>,
    is_notified: bool,
}

impl PostgresStore {
    /// Connects to the database at `url`, such as `postgres://user:password@localhost/orders`, and uses the schema
    /// `es`.
    ///
    /// The pool has at most 16 connections. Query parameters of the URL set options, such as `sslmode=verify-full`; see
    /// [`PgConnectOptions`](sqlx::postgres::PgConnectOptions). For other settings, create a pool and use
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the URL is invalid or the server rejects the user. [`StoreError::Unavailable`] if the
    /// server does not respond.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let store = Self::from_pool(database::connect(url)?);
        store.database.check_connection().await?;
        Ok(store)
    }

    /// Returns a store on a pool of connections, which may be that of the application, in the schema `es`.
    ///
    /// # Panics
    ///
    /// Never: the default name of the schema is valid.
    #[must_use]
    pub fn from_pool(pool: PgPool) -> Self {
        Self::builder(pool).build().expect("the default schema has a valid name")
    }

    /// Returns a builder for a store on a pool of connections.
    pub fn builder(pool: PgPool) -> PostgresStoreBuilder {
        PostgresStoreBuilder {
            pool,
            schema: DEFAULT_SCHEMA.to_owned(),
            timeout: DEFAULT_TIMEOUT,
            max_bytes: None,
            is_notified: true,
        }
    }

    /// Creates the schema and its tables, or migrates them to the format of this version. Does nothing if they have it.
    ///
    /// Call it at startup, or execute [`ddl`](Self::ddl) with a user that may create tables. A user that owns the schema
    /// needs no privilege on the database. Several processes may call it at the same time. After a dump was restored in
    /// another cluster, call it before any event is appended: the new cluster's transaction ids are lower, and this
    /// makes the order of the feed continue.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the server is older than PostgreSQL 14, the database does not have the encoding UTF8,
    /// the user may not create tables, or the schema has the format of a later version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        schema::migrate(&self.database).await
    }

    /// Checks that the schema has the format of this version.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if it is missing or has another format; the error says what to do.
    pub async fn verify(&self) -> Result<(), StoreError> {
        schema::verify(&self.database).await
    }

    /// Returns the SQL statements that create the schema.
    #[must_use]
    pub fn ddl(&self) -> String {
        schema::ddl(&self.database)
    }

    /// Deletes up to `limit` idempotency records that have expired before `now`, and returns their number.
    ///
    /// Expired records are ignored in any case. Call it regularly, for example once an hour, to free their space.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the statement fails.
    pub async fn delete_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        self.database.delete_expired(now, limit).await
    }

    /// Returns how many commits wait for an older transaction to end before they enter the feed, and which transaction
    /// that is.
    ///
    /// The feed ends at the oldest open transaction of the whole server that can write, in any database. If it holds
    /// back commits for 10 s, readers of the feed log a warning. With the feature `metrics`, each read sets the metric
    /// `es.feed.held` to the time for which commits have waited.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the statement fails.
    pub async fn feed_delay(&self) -> Result<FeedDelay, StoreError> {
        self.database.feed_delay().await
    }

    /// Lists all claims, and then all idempotency records, each ordered by their key: for copies of the store.
    ///
    /// The list ends with the first error: [`StoreError`] if a page cannot be read or a row cannot be decoded.
    pub fn stored_keys(&self) -> BoxStream<'_, Result<StoredKey, StoreError>> {
        self.database.stored_keys()
    }

    /// Returns the schemas with the tables of a projection's [`SqlReadModel`](crate::SqlReadModel), in the order in
    /// which they were created: one for each build that has tables.
    ///
    /// The schemas of replaced builds remain until
    /// [`delete_replaced`](es_core::Projector::delete_replaced) drops them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the statement fails.
    pub async fn projection_schemas(&self, projection: &str) -> Result<Vec<String>, StoreError> {
        self.database.projection_schemas(projection).await
    }

    /// Returns the pool of connections.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    /// Returns the name of the schema.
    #[must_use]
    pub fn schema(&self) -> &str {
        self.database.schema()
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Wakes the readers of the feed after a write.
    fn grown<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_ok() {
            self.feed.growth.grown(&self.database);
        }
        result
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        self.grown(self.database.append(append).await)
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.grown(self.database.write_set(set).await)
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.database.claim_holder(claim.checked()?).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.database.idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        StoreIdentity::of(&self.database)
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        self.database.read_stream(read)
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.database.head(stream).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        self.database.write_snapshot(stream, snapshot, replaces).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.database.erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.grown(self.database.restore(commits, end).await)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(task));
            return;
        }
        // The connections need tokio, so this task gets a runtime if the caller has none.
        std::thread::spawn(|| match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(task),
            Err(error) => tracing::warn!(%error, "dropped a background task: cannot start a tokio runtime"),
        });
    }
}

#[async_trait]
impl Documents for PostgresStore {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.database.document(key.checked()?).await
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        self.database.documents(query.checked()?).await
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        self.database.change(set.checked()?).await
    }
}

/// The feed has one slice, and needs no indexer: see the book's chapter on PostgreSQL.
#[async_trait]
impl Feed for PostgresStore {
    async fn slices(&self) -> Result<Slices, StoreError> {
        Ok(feed::SLICES)
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        SliceTree::new(feed::SLICES).check(slice)?;
        Err(StoreError::invalid(
            "the feed on PostgreSQL has one slice, which cannot be split: its order is that of the transactions",
        ))
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        self.database.read_feed(&self.feed, read).await
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.database.feed_end(slice).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.database.indexed(stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.feed.growth.listen(&self.database)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("schema", &self.schema()).finish_non_exhaustive()
    }
}

impl PostgresStoreBuilder {
    /// Sets the name of the schema (default: `es`): lowercase letters, digits, and `_`. Each schema has a separate
    /// store.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Sets how long to wait for a connection, and for the response to each statement (default: 10 s). Afterwards, the
    /// connection is closed, and the request fails with [`StoreError::Unavailable`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the maximum size of the payload of an event, and of the state in a snapshot, in bytes (default: such that
    /// it fits into an item of a DynamoDB table, 400 KB).
    ///
    /// Larger payloads and states are stored in the same rows: PostgreSQL needs no payload store. An application that
    /// may move to DynamoDB should use the limit of its payload store there, which is 64 MB by default.
    pub fn max_payload_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets whether processes notify each other of commits, with `NOTIFY` and `LISTEN` on the channel `es_feed`
    /// (default: `true`). Without notifications, a reader of the feed learns of the commits of another process when it
    /// polls.
    ///
    /// A process that appends sends at most 50 notifications per second, outside the transactions of the appends. A
    /// process that reads the feed opens one connection in addition to the pool. Turn notifications off for a pooler
    /// that does not support `LISTEN`, such as `PgBouncer` in transaction mode.
    pub fn notifications(mut self, enabled: bool) -> Self {
        self.is_notified = enabled;
        self
    }

    /// Returns the store, without a request.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the name of the schema is invalid.
    pub fn build(self) -> Result<PostgresStore, StoreError> {
        let database = Database::new(self.pool, self.schema, &schema::STORE, self.timeout, self.max_bytes)?;
        let feed = FeedState::new(Growth::new(self.is_notified));
        Ok(PostgresStore { database: Arc::new(database), feed: Arc::new(feed) })
    }
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder")
            .field("schema", &self.schema)
            .field("timeout", &self.timeout)
            .field("notifications", &self.is_notified)
            .finish_non_exhaustive()
    }
}
