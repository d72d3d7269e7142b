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

mod cache;
#[cfg(feature = "kms")]
mod kms;
mod master_key;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ReturnConsumedCapacity,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TableStatus,
};
use es_core::StoreError;
use es_core::personal::{KeyState, Keyring, MAX_KEY_AGE, Subject, SubjectKey};
use futures_util::{StreamExt, TryStreamExt, stream};

use self::cache::{KeyCache, Reading};
#[cfg(feature = "kms")]
#[cfg_attr(docsrs, doc(cfg(feature = "kms")))]
pub use self::kms::KmsMasterKey;
pub use self::master_key::{LocalMasterKey, MasterKey};
use crate::table::responses::write_cost;
use crate::table::retry::Backoff;
use crate::table::{
    BatchGet, Consistency, Failed, Item, ItemPage, MAX_KEYS, PLACE_IS_FREE, attempts, traced, translate,
    watched,
};

/// The default name of the table.
const DEFAULT_TABLE: &str = "events-keys";

/// The subject.
const SUBJECT: &str = "pk";
/// The format of the item.
const FORMAT: &str = "f";
/// The wrapped key. An item without it is the tombstone of a subject that was forgotten.
const WRAPPED: &str = "k";
/// The id of the master key.
const MASTER_KEY: &str = "m";

/// The maximum number of keys that are unwrapped at the same time, which matters if the master key is in another
/// process.
const UNWRAPPED_AT_ONCE: usize = 10;

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
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    table: String,
    /// The name of the table to which wrapped keys are bound.
    original_table: String,
    master_key: Arc<dyn MasterKey>,
    previous: Vec<Arc<dyn MasterKey>>,
    cache: KeyCache,
}

/// Builds a [`DynamoKeyring`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct DynamoKeyringBuilder {
    client: Client,
    table: String,
    original_table: Option<String>,
    master_key: Arc<dyn MasterKey>,
    previous: Vec<Arc<dyn MasterKey>>,
    cache: Duration,
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
        self.previous.push(Arc::new(key));
        self
    }

    /// Sets how long keys are cached (default and maximum: [`MAX_KEY_AGE`], one minute).
    pub fn cache(mut self, age: Duration) -> Self {
        self.cache = age.min(MAX_KEY_AGE);
        self
    }

    /// Returns the keyring.
    #[must_use]
    pub fn build(self) -> DynamoKeyring {
        let Self { client, table, original_table, master_key, previous, cache } = self;
        let original_table = original_table.unwrap_or_else(|| table.clone());
        let mut config = client.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        let client = Client::from_conf(config.build());
        let inner =
            Inner { client, table, original_table, master_key, previous, cache: KeyCache::new(cache) };
        DynamoKeyring { inner: Arc::new(inner) }
    }
}

impl DynamoKeyring {
    /// Returns a builder for a keyring that uses `client`, and wraps new keys under `master_key`.
    pub fn builder(client: &Client, master_key: impl MasterKey) -> DynamoKeyringBuilder {
        DynamoKeyringBuilder {
            client: client.clone(),
            table: DEFAULT_TABLE.to_owned(),
            original_table: None,
            master_key: Arc::new(master_key),
            previous: Vec::new(),
            cache: MAX_KEY_AGE,
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
        let Inner { client, table, .. } = &*self.inner;
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
        let Inner { client, table, master_key, .. } = &*self.inner;
        let (mut start, mut rewrapped) = (None, 0);
        loop {
            let page = client
                .scan()
                .table_name(table)
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let page = traced("Scan", table, page.send()).await.map_err(|error| translate(table, error))?;
            let page = ItemPage::try_from(page)?;
            for item in page.items {
                let stored = StoredKey::from_item(&item)?;
                if let Some(wrapped) = stored.wrapped.filter(|wrapped| wrapped.master_key != master_key.id())
                {
                    let key = self.unwrap(&stored.subject, &wrapped).await?;
                    rewrapped += u64::from(self.replace(&stored.subject, &wrapped, &key).await?);
                }
            }
            match page.last_key {
                Some(last) => start = Some(last),
                None => return Ok(rewrapped),
            }
        }
    }

    /// Replaces a wrapped key, unless it has changed. Returns whether it was replaced.
    async fn replace(&self, subject: &Subject, old: &Wrapped, key: &SubjectKey) -> Result<bool, StoreError> {
        let Inner { client, table, original_table, master_key, .. } = &*self.inner;
        let wrapped = master_key.wrap(original_table, subject, key).await?;
        let request = client
            .put_item()
            .table_name(table)
            .set_item(Some(self.item(subject, wrapped)))
            .condition_expression("k = :k")
            .expression_attribute_values(":k", AttributeValue::S(old.text.clone()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match traced("PutItem", table, watched(request.send())).await {
            Ok(output) => write_cost("PutItem", output.consumed_capacity()).map(|_| true),
            // An earlier attempt without a response has the same effect.
            Err(failed) => failed.condition(table).map(|_| false),
        }
    }

    /// Returns the item of a key.
    fn item(&self, subject: &Subject, wrapped: String) -> Item {
        let mut item = tombstone(subject);
        item.insert(WRAPPED.to_owned(), AttributeValue::S(wrapped));
        item.insert(MASTER_KEY.to_owned(), AttributeValue::S(self.inner.master_key.id().to_owned()));
        item
    }

    async fn unwrap(&self, subject: &Subject, wrapped: &Wrapped) -> Result<SubjectKey, StoreError> {
        let Inner { original_table, master_key, previous, .. } = &*self.inner;
        let mut keys = std::iter::once(master_key).chain(previous);
        match keys.find(|key| key.id() == wrapped.master_key) {
            Some(key) => key.unwrap(original_table, subject, &wrapped.text).await,
            None => {
                let reason = format!(
                    "the key of the subject `{subject}` is wrapped by the master key `{}`, and the keyring has `{}`: add it with \
                     `previous_master_key`",
                    wrapped.master_key,
                    master_key.id()
                );
                Err(StoreError::setup(reason, None))
            }
        }
    }

    /// Reads the keys of at most [`MAX_KEYS`] subjects, and caches each one as soon as it is unwrapped. If the master
    /// key is throttled, another call therefore continues with the others.
    async fn read(&self, subjects: &[Subject]) -> Result<HashMap<Subject, KeyState>, StoreError> {
        let Inner { client, table, cache, .. } = &*self.inner;
        let reading = cache.begin();
        let mut found = HashMap::new();
        let mut batch = BatchGet::new(client, table, Consistency::Strong, subjects.iter().map(key).collect());
        while let Some(items) = batch.next().await? {
            let stored = items.iter().map(StoredKey::from_item).collect::<Result<Vec<_>, _>>()?;
            let states = stored.into_iter().map(|stored| self.state(stored, reading));
            let mut states = stream::iter(states).buffer_unordered(UNWRAPPED_AT_ONCE);
            while let Some((subject, state)) = states.try_next().await? {
                found.insert(subject, state);
            }
        }
        Ok(found)
    }

    /// Returns and caches the state of a key that was read.
    async fn state(&self, stored: StoredKey, reading: Reading) -> Result<(Subject, KeyState), StoreError> {
        let StoredKey { subject, wrapped } = stored;
        let state = match &wrapped {
            Some(wrapped) => KeyState::Known(self.unwrap(&subject, wrapped).await?),
            None => KeyState::Forgotten,
        };
        self.inner.cache.put(&subject, &state, reading);
        Ok((subject, state))
    }

    /// Creates the key of a subject, or returns the one that another process has created.
    async fn create(&self, subject: &Subject) -> Result<KeyState, StoreError> {
        let Inner { client, table, original_table, master_key, .. } = &*self.inner;
        let (key, wrapped) = master_key.generate(original_table, subject).await?;
        let request = client
            .put_item()
            .table_name(table)
            .set_item(Some(self.item(subject, wrapped)))
            .condition_expression(PLACE_IS_FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let failed: Failed<_> = match traced("PutItem", table, watched(request.send())).await {
            Ok(output) => {
                // A response that is not from DynamoDB does not prove that the key is stored.
                write_cost("PutItem", output.consumed_capacity())?;
                return Ok(KeyState::Known(key));
            }
            Err(failed) => failed,
        };
        // The existing item may be that of an earlier attempt without a response.
        let existing = failed.condition(table)?.item.unwrap_or_default();
        match StoredKey::from_item(&existing)?.wrapped {
            Some(wrapped) => Ok(KeyState::Known(self.unwrap(subject, &wrapped).await?)),
            None => Ok(KeyState::Forgotten),
        }
    }
}

#[async_trait]
impl Keyring for DynamoKeyring {
    async fn keys(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        let cache = &self.inner.cache;
        let mut known: HashMap<Subject, KeyState> = HashMap::new();
        let mut unknown = Vec::new();
        for subject in subjects {
            match cache.get(subject) {
                Some(state) => drop(known.insert(subject.clone(), state)),
                None if unknown.contains(subject) => {}
                None => unknown.push(subject.clone()),
            }
        }
        for batch in unknown.chunks(MAX_KEYS) {
            known.extend(self.read(batch).await?);
        }
        let states = subjects.iter().map(|subject| known.get(subject).cloned());
        Ok(states.map(|state| state.unwrap_or(KeyState::Missing)).collect())
    }

    async fn keys_or_create(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        let mut states = self.keys(subjects).await?;
        for (subject, state) in subjects.iter().zip(&mut states) {
            if *state == KeyState::Missing {
                let reading = self.inner.cache.begin();
                *state = self.create(subject).await?;
                self.inner.cache.put(subject, state, reading);
            }
        }
        Ok(states)
    }

    async fn forget(&self, subject: &Subject) -> Result<(), StoreError> {
        let Inner { client, table, cache, .. } = &*self.inner;
        let request = client
            .put_item()
            .table_name(table)
            .set_item(Some(tombstone(subject)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        cache.forget(subject);
        let put = traced("PutItem", table, watched(request.send())).await;
        // A read that began before the write must not put the key into the cache again.
        cache.forget(subject);
        let output = put.map_err(|failed| failed.translate(table))?;
        write_cost("PutItem", output.consumed_capacity()).map(drop)
    }
}

impl fmt::Debug for DynamoKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoKeyring")
            .field("table", &self.inner.table)
            .field("master_key", &self.inner.master_key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DynamoKeyringBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoKeyringBuilder")
            .field("table", &self.table)
            .field("master_key", &self.master_key)
            .finish_non_exhaustive()
    }
}

/// A wrapped key.
struct Wrapped {
    text: String,
    master_key: String,
}

/// The item of a subject.
struct StoredKey {
    subject: Subject,
    /// `None` if the subject was forgotten.
    wrapped: Option<Wrapped>,
}

impl StoredKey {
    fn from_item(item: &Item) -> Result<Self, StoreError> {
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
        let subject = text(SUBJECT).unwrap_or_default();
        let what = format!("the key of the subject `{subject}`");
        let corrupt = |reason: &str| {
            StoreError::corrupt_item(what.clone(), format!("{reason}: restore it from a backup"))
        };
        match item.get(FORMAT).and_then(|value| value.as_n().ok()).map(String::as_str) {
            Some("1") => {}
            _ => return Err(corrupt("it has an unknown format")),
        }
        let wrapped = match (text(WRAPPED), text(MASTER_KEY)) {
            (Some(text), Some(master_key)) => Some(Wrapped { text, master_key }),
            (None, None) if !item.contains_key(WRAPPED) => None,
            _ => return Err(corrupt("its attributes are damaged")),
        };
        match subject.is_empty() {
            true => Err(corrupt("it has no subject")),
            false => Ok(Self { subject: Subject::from_stored(subject), wrapped }),
        }
    }
}

/// Returns the key of a subject's item.
fn key(subject: &Subject) -> Item {
    Item::from([(SUBJECT.to_owned(), AttributeValue::S(subject.as_str().to_owned()))])
}

/// Returns the item of a subject that was forgotten.
fn tombstone(subject: &Subject) -> Item {
    let mut item = key(subject);
    item.insert(FORMAT.to_owned(), AttributeValue::N("1".to_owned()));
    item
}
