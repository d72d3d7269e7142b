//! The builder of a store.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "aws")]
use std::time::Duration;

use aws_sdk_dynamodb::Client;
#[cfg(feature = "aws")]
use aws_smithy_types::timeout::TimeoutConfigBuilder;
use es_core::StoreError;
use es_core::feed::Slices;
use es_core::payloads::Payloads;

use super::DynamoStore;
#[cfg(feature = "embedded")]
use crate::embedded::Engine;
use crate::feed::TableFeed;
use crate::streams::decode;
use crate::streams::objects::ObjectStore;
use crate::table::Table;
#[cfg(feature = "aws")]
use crate::table::client;

/// The default name of the table.
const DEFAULT_TABLE: &str = "events";

/// The environment variable with the name of the table.
#[cfg(feature = "aws")]
const TABLE_VARIABLE: &str = "ES_DYNAMO_TABLE";

/// Builds a [`DynamoStore`].
///
/// ```
/// # fn example(client: aws_sdk_dynamodb::Client) -> Result<(), es_core::StoreError> {
/// use es_dynamo::DynamoStore;
///
/// let store = DynamoStore::builder().client(client).table("orders").build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct DynamoStoreBuilder {
    client: Option<Client>,
    #[cfg(feature = "indexer")]
    streams: Option<aws_sdk_dynamodbstreams::Client>,
    #[cfg(feature = "aws")]
    source: Option<Source>,
    #[cfg(feature = "aws")]
    timeouts: TimeoutConfigBuilder,
    #[cfg(feature = "embedded")]
    engine: Option<Engine>,
    table: Option<String>,
    slices: Option<Slices>,
    compress_above: Option<u64>,
    max_copy: u64,
    payloads: Option<Payloads>,
}

/// The source of the settings of clients that the builder creates.
#[cfg(feature = "aws")]
enum Source {
    Environment(Box<aws_config::SdkConfig>),
    Endpoint(String),
}

impl DynamoStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            client: None,
            #[cfg(feature = "indexer")]
            streams: None,
            #[cfg(feature = "aws")]
            source: None,
            #[cfg(feature = "aws")]
            timeouts: client::default_timeouts(),
            #[cfg(feature = "embedded")]
            engine: None,
            table: None,
            slices: None,
            compress_above: None,
            max_copy: 0,
            payloads: None,
        }
    }

    /// Uses `client`, with its credentials, region, timeouts, and retries. It takes precedence over the clients of
    /// [`from_env`](Self::from_env) and [`endpoint`](Self::endpoint).
    ///
    /// Set its timeouts: by default, the SDK waits for a response indefinitely. The clients that this builder creates
    /// have these timeouts:
    ///
    /// ```
    /// # use std::time::Duration;
    /// use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
    ///
    /// let timeouts = TimeoutConfig::builder()
    ///     .connect_timeout(Duration::from_secs(2))
    ///     .operation_attempt_timeout(Duration::from_secs(5))
    ///     .operation_timeout(Duration::from_secs(30))
    ///     .build();
    /// # let _ = aws_sdk_dynamodb::Config::builder().timeout_config(timeouts);
    /// ```
    ///
    /// If the client has interceptors, for example to encrypt and decrypt items, they see all requests and responses.
    /// Without interceptors, loads are faster, because commits are decoded directly from the text of the response.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Uses `client` for the table's stream, which an [`Indexer`](crate::Indexer) reads.
    #[cfg(feature = "indexer")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indexer")))]
    pub fn streams_client(mut self, client: aws_sdk_dynamodbstreams::Client) -> Self {
        self.streams = Some(client);
        self
    }

    /// Uses the embedded `engine`, and its outbox instead of a stream.
    ///
    /// A [`client`](Self::client) that is set afterwards is used for requests. It must be a client of the same engine.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), es_core::StoreError> {
    /// use es_dynamo::DynamoStore;
    /// use es_dynamo::embedded::Engine;
    ///
    /// let engine = Engine::in_memory()?;
    /// let store = DynamoStore::builder().engine(&engine).table("orders").build()?;
    /// store.create_table().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "embedded")]
    #[cfg_attr(docsrs, doc(cfg(feature = "embedded")))]
    pub fn engine(mut self, engine: &Engine) -> Self {
        self.client = Some(engine.client());
        self.engine = Some(engine.clone());
        self
    }

    /// Sets the name of the table (default: `events`).
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = Some(name.into());
        self
    }

    /// Sets the number of slices with which the feed of a new table begins (default: 1). The number of slices is the
    /// maximum number of workers that can share one projection. All events of a slice are in one order, and there is no
    /// order between slices. A slice that becomes too busy can be [split](es_core::feed::Feed::split) later.
    ///
    /// The initial number is fixed when the feed is created. Without this setting, a store uses that of the existing
    /// feed; with it, requests to a feed that began with another number fail with [`StoreError::Invalid`].
    pub fn slices(mut self, slices: Slices) -> Self {
        self.slices = Some(slices);
        self
    }

    /// Compresses the events of commits whose item has more than `bytes` bytes, if the item then takes fewer write
    /// units (default: no commit is compressed, so that events are readable in the table).
    ///
    /// Reading costs less, too: two or three times for JSON with repeated names. Stores without this setting read
    /// compressed commits, and the limits of a commit are those of its size before compression. Programs that read the
    /// table without this crate must know the format, which the book specifies. Commits of more than 64 KB are
    /// compressed on a thread for blocking work.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), es_core::StoreError> {
    /// use es_dynamo::DynamoStore;
    /// use es_dynamo::embedded::Engine;
    ///
    /// let engine = Engine::in_memory()?;
    /// let store = DynamoStore::builder().engine(&engine).compress_commits_above(4 * 1024).build()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    pub fn compress_commits_above(mut self, bytes: u64) -> Self {
        self.compress_above = Some(bytes);
        self
    }

    /// Copies commits whose items have at most `max_bytes` bytes into the pages of the feed (default: 0, no copies).
    ///
    /// With copies, a consumer reads small commits together with their page, and gets only larger ones by their keys.
    /// That costs less if there are several consumers: see *Operations on AWS* in the book. An indexer reads the
    /// commits of a page once before it writes the page. The setting applies to pages that this store writes; every
    /// store reads both kinds.
    ///
    /// Copies stay in the feed when a stream is deleted. Do not use them if events have to be deleted.
    pub fn copy_commits(mut self, max_bytes: u64) -> Self {
        self.max_copy = max_bytes;
        self
    }

    /// Sets the payload store for events and snapshots that do not fit into an item of 400 KB (default: none, so that
    /// they are rejected with [`StoreError::TooLarge`]).
    ///
    /// An event may then have 64 MB, unless the settings say otherwise, and a commit any number of bytes. A commit of
    /// several events is still split over several items, up to 4 MB. Only beyond that do its largest events become
    /// objects. An object is stored before the item that refers to it, and the item is written in a transaction, at
    /// twice the units. Run [`Reconciler::sweep_payloads`](crate::Reconciler::sweep_payloads) from time to time, which
    /// deletes the objects of failed appends, replaced snapshots, and deleted streams.
    ///
    /// All processes that use the table need the payload store: an event in an object cannot be loaded without it.
    ///
    /// ```
    /// # fn example(client: aws_sdk_dynamodb::Client) -> Result<(), es_core::StoreError> {
    /// use es_core::payloads::{MemoryPayloads, Payloads};
    /// use es_dynamo::DynamoStore;
    ///
    /// let payloads = Payloads::new(MemoryPayloads::new()).with_max_bytes(16 * 1024 * 1024);
    /// let store = DynamoStore::builder().client(client).payloads(payloads).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn payloads(mut self, payloads: impl Into<Payloads>) -> Self {
        self.payloads = Some(payloads.into());
        self
    }

    /// Uses clients from the environment, and the name of the table unless one is set; see [`DynamoStore::from_env`].
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(mut self) -> Self {
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(client::https_client())
            .load()
            .await;
        self.source = Some(Source::Environment(Box::new(config)));
        self.table = self.table.or_else(|| std::env::var(TABLE_VARIABLE).ok());
        self
    }

    /// Uses a DynamoDB-compatible server at `url`, such as DynamoDB Local at `http://localhost:8000`, without
    /// credentials.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.source = Some(Source::Endpoint(url.into()));
        self
    }

    /// Sets how long the clients of [`from_env`](Self::from_env) and [`endpoint`](Self::endpoint) wait for a connection
    /// (default: 2 s).
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts = self.timeouts.connect_timeout(timeout);
        self
    }

    /// Sets the timeout of an attempt, from the connection to the last byte of the response, for the clients of
    /// [`from_env`](Self::from_env) and [`endpoint`](Self::endpoint) (default: 5 s). Afterwards, the SDK retries the
    /// request.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts = self.timeouts.operation_attempt_timeout(timeout);
        self
    }

    /// Sets the timeout of a request with all its attempts and the delays between them, for the clients of
    /// [`from_env`](Self::from_env) and [`endpoint`](Self::endpoint) (default: 30 s). Afterwards, the request fails
    /// with [`StoreError::Unavailable`].
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts = self.timeouts.operation_timeout(timeout);
        self
    }

    /// Creates the clients that are not set.
    #[cfg(feature = "aws")]
    fn make_clients(&mut self) {
        let timeouts = self.timeouts.clone().build();
        let Some(source) = self.source.take() else { return };
        self.client.get_or_insert_with(|| {
            let config = match &source {
                Source::Environment(config) => aws_sdk_dynamodb::config::Builder::from(&**config),
                Source::Endpoint(url) => {
                    client::unsigned_config().endpoint_url(url).http_client(client::https_client())
                }
            };
            Client::from_conf(config.timeout_config(timeouts.clone()).build())
        });
        #[cfg(feature = "indexer")]
        self.streams.get_or_insert_with(|| {
            let config = match &source {
                Source::Environment(config) => aws_sdk_dynamodbstreams::config::Builder::from(&**config),
                Source::Endpoint(url) => {
                    client::unsigned_streams_config().endpoint_url(url).http_client(client::https_client())
                }
            };
            aws_sdk_dynamodbstreams::Client::from_conf(config.timeout_config(timeouts).build())
        });
    }

    /// Returns the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if there is no client, or DynamoDB does not allow the name of the table.
    #[cfg_attr(not(feature = "aws"), allow(unused_mut))]
    pub fn build(mut self) -> Result<DynamoStore, StoreError> {
        #[cfg(feature = "aws")]
        self.make_clients();
        let name = self.table.unwrap_or_else(|| DEFAULT_TABLE.to_owned());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(3..=255).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(StoreError::invalid(format!(
                "`{name}` is not a valid name of a table: use 3 to 255 letters, digits, `_`, `.`, or `-`"
            )));
        }
        let Some(client) = self.client else {
            return Err(StoreError::invalid(
                "a store needs a client: call `client`, `from_env`, or `endpoint` on the builder",
            ));
        };
        #[cfg(feature = "embedded")]
        let outbox = self.engine.map(|engine| engine.outbox(&name));
        let objects = self.payloads.map(|payloads| ObjectStore::new(payloads, &name)).transpose()?;
        let mut table = Table::new(client, name, decode::interceptor());
        table.objects = objects;
        table.compress_above = self.compress_above;
        let table = Arc::new(table);
        #[cfg_attr(not(any(feature = "indexer", feature = "embedded")), allow(unused_mut))]
        let mut feed = TableFeed::new(Arc::clone(&table), self.slices, self.max_copy);
        #[cfg(feature = "indexer")]
        {
            feed.streams = self.streams;
        }
        #[cfg(feature = "embedded")]
        {
            feed.outbox = outbox;
        }
        Ok(DynamoStore { table, feed: Arc::new(feed) })
    }
}

impl fmt::Debug for DynamoStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoStoreBuilder").field("table", &self.table).finish_non_exhaustive()
    }
}
