//! A keyring in a DynamoDB table: the keys of the subjects of personal data.
//!
//! The keys are in a separate table, so that backups of the events do not contain them. Each key is wrapped by a
//! [`MasterKey`], so that the table alone is not enough to read anything.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), es_core::StoreError> {
//! use es_core::personal::{Keyring, SealedStore, Subject};
//! use es_dynamo::DynamoStore;
//! use es_dynamo::keyring::{DynamoKeyring, LocalMasterKey};
//!
//! let store = DynamoStore::embedded().await?;
//! // Use `LocalMasterKey::from_env()?` in production.
//! let master_key = LocalMasterKey::new([7; 32]);
//! let keyring = DynamoKeyring::builder(store.client(), master_key).build();
//! keyring.create_table().await?;
//! let store = SealedStore::new(store, keyring.clone());
//!
//! keyring.forget(&Subject::new("17")?).await?;
//! # let _ = store;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```

#[cfg(feature = "kms")]
mod kms;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
};
use es_core::StoreError;
use es_core::clock::{Clock, SystemClock};
use es_core::personal::{KeyState, Keyring, MAX_KEY_AGE, MasterKeys, Subject, WrappedKeyring};

#[doc(no_inline)]
pub use es_core::personal::{LocalMasterKey, MasterKey};

#[cfg(feature = "kms")]
#[cfg_attr(docsrs, doc(cfg(feature = "kms")))]
pub use self::kms::KmsMasterKey;
use self::table::{SUBJECT, Table};
use crate::table::retry::Backoff;
use crate::table::{attempts, translate};

/// The default name of the table.
const DEFAULT_TABLE: &str = "events-keys";

/// The maximum time to wait for a new table.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// A [`Keyring`] in a DynamoDB table. Clones share the cache of keys.
///
/// | operation | requests | units |
/// |---|---|---|
/// | keys of up to 100 subjects, not cached | 1 `BatchGetItem`, strongly consistent | 1 RCU each |
/// | key of a new subject | 1 more, `PutItem` | 1 WCU |
/// | forgetting | 1 `PutItem` | 1 WCU |
///
/// Keys are cached for one minute, unless the [builder](DynamoKeyringBuilder::cache) sets a shorter time. Forgetting a
/// subject also removes its key from the cache of this handle and its clones at once.
///
/// # Atomicity
///
/// A key is created by a conditional write, so processes that create the key of a subject at the same time agree on
/// one. Forgetting replaces the key by a tombstone, which is never removed, so the subject never gets another key.
#[derive(Clone)]
pub struct DynamoKeyring {
    keys: Arc<WrappedKeyring<Table>>,
}

/// Builds a [`DynamoKeyring`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct DynamoKeyringBuilder {
    client: Client,
    table: String,
    original_table: Option<String>,
    master_keys: MasterKeys,
    cache: Duration,
    clock: Arc<dyn Clock>,
}

impl DynamoKeyringBuilder {
    /// Sets the name of the table (default: `events-keys`).
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Sets the former name of a table that was restored from a backup under another name (default: the name of the
    /// table). Wrapped keys are bound to it.
    pub fn original_table(mut self, name: impl Into<String>) -> Self {
        self.original_table = Some(name.into());
        self
    }

    /// Adds a former master key, under which keys may still be wrapped: see [`DynamoKeyring::rewrap`].
    pub fn previous_master_key(mut self, key: impl MasterKey) -> Self {
        self.master_keys = self.master_keys.with_previous(key);
        self
    }

    /// Sets how long keys are cached (default and maximum: [`MAX_KEY_AGE`], one minute).
    pub fn cache(mut self, age: Duration) -> Self {
        self.cache = age;
        self
    }

    /// Sets the clock that measures the age of cached keys (default: the system's clock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Returns the keyring.
    #[must_use]
    pub fn build(self) -> DynamoKeyring {
        let Self { client, table, original_table, master_keys, cache, clock } = self;
        let name = original_table.unwrap_or_else(|| table.clone());
        let mut config = client.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        let table = Table { client: Client::from_conf(config.build()), name: table };
        DynamoKeyring { keys: Arc::new(WrappedKeyring::new(table, name, master_keys, cache, clock)) }
    }
}

impl DynamoKeyring {
    /// Returns a builder for a keyring that uses `client`, and wraps new keys under `master_key`.
    pub fn builder(client: &Client, master_key: impl MasterKey) -> DynamoKeyringBuilder {
        DynamoKeyringBuilder {
            client: client.clone(),
            table: DEFAULT_TABLE.to_owned(),
            original_table: None,
            master_keys: MasterKeys::new(master_key),
            cache: MAX_KEY_AGE,
            clock: Arc::new(SystemClock),
        }
    }

    /// Creates the table with on-demand capacity, and waits until it is active. Succeeds if it exists.
    ///
    /// Point-in-time recovery is off, because a forgotten key would survive in the backups for 35 days. If you turn it
    /// on, say so in your privacy policy.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the client may not create the table, or it does not become active.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        let Table { client, name: table } = self.keys.table();
        let invalid = |error: aws_sdk_dynamodb::error::BuildError| StoreError::Backend(error.into());
        let attribute = AttributeDefinition::builder()
            .attribute_name(SUBJECT)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .map_err(invalid)?;
        let key = KeySchemaElement::builder()
            .attribute_name(SUBJECT)
            .key_type(KeyType::Hash)
            .build()
            .map_err(invalid)?;
        let created = client
            .create_table()
            .table_name(table)
            .attribute_definitions(attribute)
            .key_schema(key)
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await;
        match created {
            Ok(_) => {}
            Err(error)
                if error.as_service_error().is_some_and(CreateTableError::is_resource_in_use_exception) => {}
            Err(error) => return Err(translate(table, error)),
        }
        let (start, mut backoff) = (tokio::time::Instant::now(), Backoff::default());
        while start.elapsed() < MAX_WAIT {
            let described = client.describe_table().table_name(table).send().await;
            let described = described.map_err(|error| translate(table, error))?;
            if described.table.and_then(|table| table.table_status) == Some(TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(backoff.next()).await;
        }
        Err(StoreError::setup(format!("the table `{table}` is not active after {MAX_WAIT:?}"), None))
    }

    /// Wraps all keys under the current master key that are still under a
    /// [previous](DynamoKeyringBuilder::previous_master_key) one. Returns their number.
    ///
    /// To rotate the master key: deploy the new one with the old one as previous everywhere, call this, and remove the
    /// old one. The call can be repeated at any time, and continues where an earlier one has stopped. Keys that are
    /// forgotten or rewrapped meanwhile are left alone.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a request fails, or a key is under a master key that the keyring does not have.
    pub async fn rewrap(&self) -> Result<u64, StoreError> {
        self.keys.rewrap().await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Keyring for DynamoKeyring {
    async fn keys(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        self.keys.keys(subjects).await
    }

    async fn keys_or_create(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        self.keys.keys_or_create(subjects).await
    }

    async fn forget(&self, subject: &Subject) -> Result<(), StoreError> {
        self.keys.forget(subject).await
    }
}

impl fmt::Debug for DynamoKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynamoKeyring").field(&self.keys).finish()
    }
}

impl fmt::Debug for DynamoKeyringBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoKeyringBuilder")
            .field("table", &self.table)
            .field("master_key", &self.master_keys.current())
            .finish_non_exhaustive()
    }
}
