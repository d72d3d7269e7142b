//! The store.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::query::{QueryError, QueryOutput};
use es_core::feed::Slices;
use es_core::store::{
    Append, AppendError, Appended, Claim, EventStore, Head, Holder, MarkerRead, OnceKey, Page, Read,
    StoreIdentity, WriteError, WriteSet, Written,
};
use es_core::{Cost, Snapshot, StoreError, StreamId, Version};
use event_listener::Event;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use tokio::sync::OnceCell;

use crate::answer;
use crate::attempts::{self, Failed, watched};
use crate::builder::DynamoStoreBuilder;
use crate::feed::FeedIndex;
use crate::sending::Sender;
use crate::table::TableOptions;

/// An event store in a DynamoDB table. A clone shares everything.
///
/// # What operations do
///
/// | operation | requests | what they are |
/// |---|---|---|
/// | append by a repository | 1 | `PutItem` on the condition that the place is free |
/// | load | 1 for each MB | `Query`, strongly consistent, from the newest snapshot on |
/// | append at a version from elsewhere | 2 | a `Query` of one item for the stream's end, `PutItem` |
/// | write several streams, with a claim or under a key | 1 | `TransactWriteItems`, at twice the units |
/// | write a snapshot | 1 | `PutItem` on the condition that it is newer |
/// | read a document, list some | 1 | `GetItem`, `Query` |
/// | change a document, several | 1 | `PutItem` or `DeleteItem`, `TransactWriteItems` |
///
/// A commit is one item. Its sort key is the version of its first event, so that writers who start from the
/// same version collide, and an item once written is never changed. A commit of more than 400 KB, which is
/// the most that an item holds, is as many items as it takes, written in one transaction, up to 4 MB: that
/// costs twice as much.
///
/// # Lost responses
///
/// When the response to a write is lost, the SDK or the repository sends it again; the condition then fails
/// on its own item, which comes back with the error and is recognized by its commit id.
///
/// If the later attempts are refused instead, because the credentials have expired in the meantime for example, the
/// error is [`StoreError::Unavailable`], and
/// [`is_outcome_unknown`](StoreError::is_outcome_unknown) returns `true`: the store watches all attempts, also those that
/// the SDK makes without reporting them. A response that is not from DynamoDB, such as the error page or the empty `200`
/// of a gateway, counts as none.
#[derive(Clone)]
pub struct DynamoStore {
    pub(crate) table: Arc<Table>,
}

/// A table, and the client to reach it.
pub(crate) struct Table {
    /// As the caller gave it.
    pub(crate) given: Client,
    /// The same for the store's own requests.
    pub(crate) client: Client,
    pub(crate) name: String,
    /// The requests of commands: one of each, as a rule.
    pub(crate) queries: Sender<QueryFluentBuilder, Result<QueryOutput, SdkError<QueryError>>>,
    pub(crate) puts: Sender<PutItemFluentBuilder, Result<PutItemOutput, Failed<PutItemError>>>,
    /// The client for the table's stream, if there is one.
    #[cfg(feature = "indexer")]
    pub(crate) streams: Option<aws_sdk_dynamodbstreams::Client>,
    /// The commits that are not in the feed yet, where the engine keeps them.
    #[cfg(feature = "embedded")]
    pub(crate) outbox: Option<crate::embedded::Outbox>,
    /// How many slices the feed has to have, if that was said.
    pub(crate) slices: Option<Slices>,
    pub(crate) feed: OnceCell<FeedIndex>,
    /// Notified when this process has made the feed grow.
    pub(crate) grown: Arc<Event>,
}

impl Table {
    pub(crate) fn new(given: Client, name: String, slices: Option<Slices>) -> Self {
        let mut config = given.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        // A client with other interceptors may need the decoded response, to decrypt it for example.
        if given.config().interceptors().next().is_none() {
            config.push_interceptor(answer::interceptor());
        }
        let client = Client::from_conf(config.build());
        let queries = Sender::new(QueryFluentBuilder::send);
        let puts = Sender::new(|put: PutItemFluentBuilder| watched(put.send()));
        let (feed, grown) = (OnceCell::new(), Arc::default());
        Self {
            given,
            client,
            name,
            queries,
            puts,
            #[cfg(feature = "indexer")]
            streams: None,
            #[cfg(feature = "embedded")]
            outbox: None,
            slices,
            feed,
            grown,
        }
    }
}

impl DynamoStore {
    /// Settings for a store.
    pub fn builder() -> DynamoStoreBuilder {
        DynamoStoreBuilder::new()
    }

    /// The store in the table that the environment names, on Amazon DynamoDB.
    ///
    /// Credentials, region and endpoint come from where the AWS command line has them: environment
    /// variables, profiles, the container's or the instance's role
    /// ([documentation](https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html)). The
    /// table is that of `ES_DYNAMO_TABLE`, or `events`. It has to exist, see
    /// [`create_table`](Self::create_table).
    ///
    /// The client waits 2 s for a connection, 5 s for the response to an attempt, and 30 s for all attempts of a
    /// request; [`builder`](Self::builder) has methods to change that.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when the table's name is not allowed.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env() -> Result<Self, StoreError> {
        Self::builder().from_env().await.build()
    }

    /// A new store in memory, on an engine in this process that speaks DynamoDB.
    ///
    /// # Errors
    ///
    /// [`StoreError::Backend`] when the engine cannot be started.
    #[cfg(feature = "embedded")]
    #[cfg_attr(docsrs, doc(cfg(feature = "embedded")))]
    pub async fn embedded() -> Result<Self, StoreError> {
        crate::embedded::Engine::in_memory()?.store().await
    }

    /// The same in a file, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] when the file cannot be opened, or is not a database of the engine, or its table
    /// has another shape; [`StoreError::Backend`] when the file is damaged or the disk is full.
    #[cfg(feature = "embedded")]
    #[cfg_attr(docsrs, doc(cfg(feature = "embedded")))]
    pub async fn embedded_at(path: impl AsRef<std::path::Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        // It may wait for a lock that another program holds.
        let opened = tokio::task::spawn_blocking(|| crate::embedded::Engine::in_file(path)).await;
        opened.map_err(|error| StoreError::Backend(error.into()))??.store().await
    }

    /// Creates the table, on demand, and waits until it is there; an existing one is verified.
    ///
    /// A new table on AWS has point-in-time recovery and deletion protection, unless
    /// [`create_table_with`](Self::create_table_with) turns them off.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] when there is a table of another shape, or the client may not create one.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        self.create_table_with(TableOptions::on_demand()).await
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// As [`create_table`](Self::create_table).
    pub async fn create_table_with(&self, options: TableOptions) -> Result<(), StoreError> {
        self.table.create(options).await
    }

    /// Verifies that the table has the shape that the store needs, its keys, its stream, its time to live, and that the
    /// feed has the number of slices with which its pages were written.
    ///
    /// On AWS, it also logs a warning if point-in-time recovery or deletion protection is off.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] names every difference, and what to do; [`StoreError::Damaged`] when the feed's settings
    /// were changed.
    pub async fn verify_table(&self) -> Result<(), StoreError> {
        self.table.verify().await?;
        self.table.warn_if_unprotected().await
    }

    /// The client that the store was made with.
    #[must_use]
    #[expect(clippy::misnamed_getters, reason = "the store's own one leaves some answers undecoded")]
    pub fn client(&self) -> &Client {
        &self.table.given
    }

    /// The client that an [`Indexer`](crate::Indexer) uses, if there is one.
    #[cfg(feature = "indexer")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indexer")))]
    #[must_use]
    pub fn streams_client(&self) -> Option<&aws_sdk_dynamodbstreams::Client> {
        self.table.streams.as_ref()
    }

    /// The name of the table.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.table.name
    }
}

#[async_trait]
impl EventStore for DynamoStore {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        self.table.append(append).await
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        self.table.write(set).await
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.table.claim_holder(claim).await
    }

    async fn marker(&self, key: &OnceKey) -> Result<MarkerRead, StoreError> {
        self.table.marker(key).await
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

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(task));
            return;
        }
        // The SDK needs tokio, so a caller without it gets one for this task.
        std::thread::spawn(|| match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(task),
            Err(error) => tracing::warn!(%error, "a background task was dropped: tokio does not start"),
        });
    }
}

impl fmt::Debug for DynamoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoStore").field("table", &self.table.name).finish_non_exhaustive()
    }
}
