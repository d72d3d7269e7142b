//! Settings of a store.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "aws")]
use std::time::Duration;

use aws_sdk_dynamodb::Client;
#[cfg(feature = "aws")]
use aws_smithy_types::timeout::{TimeoutConfig, TimeoutConfigBuilder};
use es_core::StoreError;
use es_core::feed::Slices;

use crate::store::{DynamoStore, Table};

/// The table when none is named.
const DEFAULT_TABLE: &str = "events";

/// The environment variable that names the table.
#[cfg(feature = "aws")]
const TABLE_VARIABLE: &str = "ES_DYNAMO_TABLE";

/// Settings of a [`DynamoStore`]: which table, and how to reach it.
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
    engine: Option<crate::embedded::Engine>,
    table: Option<String>,
    slices: Option<Slices>,
}

/// Where the builder's own clients get their settings from.
#[cfg(feature = "aws")]
enum Source {
    Environment(Box<aws_config::SdkConfig>),
    Endpoint(String),
}

/// The timeouts of the clients that this crate makes. By default, the SDK waits for a response indefinitely.
#[cfg(feature = "aws")]
pub(crate) fn default_timeouts() -> TimeoutConfigBuilder {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(30))
}

impl DynamoStoreBuilder {
    pub(crate) fn new() -> Self {
        Self {
            client: None,
            #[cfg(feature = "indexer")]
            streams: None,
            #[cfg(feature = "aws")]
            source: None,
            #[cfg(feature = "aws")]
            timeouts: default_timeouts(),
            #[cfg(feature = "embedded")]
            engine: None,
            table: None,
            slices: None,
        }
    }

    /// Uses `client`, with the credentials, the region, the timeouts and the retries that it was made with. It takes
    /// precedence over the clients of [`from_env`](Self::from_env) and [`endpoint`](Self::endpoint).
    ///
    /// Set its timeouts: unless told otherwise, the SDK waits for a response indefinitely. The clients that this
    /// builder makes itself have these:
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
    /// If it has interceptors of its own, to encrypt and decrypt say, they see all that is sent and found. Without any,
    /// loads are faster: commits are read from the text of an answer, and the SDK makes no items of it.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Uses `client` for the table's stream: what an [`Indexer`](crate::Indexer) needs besides.
    #[cfg(feature = "indexer")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indexer")))]
    pub fn streams_client(mut self, client: aws_sdk_dynamodbstreams::Client) -> Self {
        self.streams = Some(client);
        self
    }

    /// Uses the embedded `engine`. The table needs no stream there: an [`Indexer`](crate::Indexer) learns of commits
    /// from the engine.
    ///
    /// A [`client`](Self::client) that is set after this is used for requests. It must be a client of the same
    /// engine.
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
    pub fn engine(mut self, engine: &crate::embedded::Engine) -> Self {
        self.client = Some(engine.client());
        self.engine = Some(engine.clone());
        self
    }

    /// Uses the table `name`, `events` if none is named.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = Some(name.into());
        self
    }

    /// Sets into how many slices the feed of a new table is divided (default: 8): the most workers that can share one
    /// projection.
    ///
    /// The number is fixed when the feed is made. Without this setting, a store takes the number that the feed has; with
    /// it, whatever uses a feed that has another number fails with [`StoreError::Setup`].
    pub fn slices(mut self, slices: Slices) -> Self {
        self.slices = Some(slices);
        self
    }

    /// Uses clients, and unless one was chosen the table, from the environment: see [`DynamoStore::from_env`].
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(mut self) -> Self {
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(https_client())
            .load()
            .await;
        self.source = Some(Source::Environment(Box::new(config)));
        self.table = self.table.or_else(|| std::env::var(TABLE_VARIABLE).ok());
        self
    }

    /// Uses a DynamoDB-compatible server at `url`, such as DynamoDB Local at `http://localhost:8000`. Those
    /// take any credentials.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.source = Some(Source::Endpoint(url.into()));
        self
    }

    /// Sets how long the clients of [`from_env`](Self::from_env) and [`endpoint`](Self::endpoint) wait for a
    /// connection: 2 s by default.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts = self.timeouts.connect_timeout(timeout);
        self
    }

    /// Sets how long the clients of [`from_env`](Self::from_env) and [`endpoint`](Self::endpoint) wait for the
    /// response to one attempt, from the connection to the last byte: 5 s by default. Then the SDK tries again.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts = self.timeouts.operation_attempt_timeout(timeout);
        self
    }

    /// Sets how long all attempts of a request of the clients of [`from_env`](Self::from_env) and
    /// [`endpoint`](Self::endpoint) take together, with the pauses between them: 30 s by default. Then the request fails
    /// with [`StoreError::Unavailable`].
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts = self.timeouts.operation_timeout(timeout);
        self
    }

    /// Makes the clients that were not given.
    #[cfg(feature = "aws")]
    fn make_clients(&mut self) {
        let timeouts = self.timeouts.clone().build();
        let Some(source) = self.source.take() else { return };
        self.client.get_or_insert_with(|| {
            let config = match &source {
                Source::Environment(config) => aws_sdk_dynamodb::config::Builder::from(&**config),
                Source::Endpoint(url) => unsigned_config().endpoint_url(url).http_client(https_client()),
            };
            Client::from_conf(config.timeout_config(timeouts.clone()).build())
        });
        #[cfg(feature = "indexer")]
        self.streams.get_or_insert_with(|| {
            let config = match &source {
                Source::Environment(config) => aws_sdk_dynamodbstreams::config::Builder::from(&**config),
                Source::Endpoint(url) => {
                    unsigned_streams_config().endpoint_url(url).http_client(https_client())
                }
            };
            aws_sdk_dynamodbstreams::Client::from_conf(config.timeout_config(timeouts).build())
        });
    }

    /// The store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when there is no client, or the table's name is not one that DynamoDB allows.
    #[cfg_attr(not(feature = "aws"), allow(unused_mut))]
    pub fn build(mut self) -> Result<DynamoStore, StoreError> {
        #[cfg(feature = "aws")]
        self.make_clients();
        let name = self.table.unwrap_or_else(|| DEFAULT_TABLE.to_owned());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(3..=255).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(StoreError::invalid(format!(
                "`{name}` cannot be the name of a table: it needs 3 to 255 letters, digits, `_`, `.` or `-`"
            )));
        }
        let Some(client) = self.client else {
            return Err(StoreError::invalid(
                "a store needs a client: call `client`, `from_env` or `endpoint` on the builder",
            ));
        };
        let table = Table {
            #[cfg(feature = "indexer")]
            streams: self.streams,
            #[cfg(feature = "embedded")]
            outbox: self.engine.map(|engine| engine.outbox(&name)),
            ..Table::new(client, name, self.slices)
        };
        Ok(DynamoStore { table: Arc::new(table) })
    }
}

/// What a client needs that talks to an engine which checks no credentials.
#[cfg(any(feature = "aws", feature = "embedded"))]
pub(crate) fn unsigned_config() -> aws_sdk_dynamodb::config::Builder {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};

    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
}

/// The same for the table's stream.
#[cfg(all(feature = "indexer", any(feature = "aws", feature = "embedded")))]
pub(crate) fn unsigned_streams_config() -> aws_sdk_dynamodbstreams::config::Builder {
    use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Credentials, Region};

    aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
}

/// HTTPS by rustls with ring: the SDK's default takes several times as long to build.
#[cfg(feature = "aws")]
pub(crate) fn https_client() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

impl fmt::Debug for DynamoStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoStoreBuilder").field("table", &self.table).finish_non_exhaustive()
    }
}
