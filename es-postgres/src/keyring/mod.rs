//! A keyring in a schema of a PostgreSQL database: the keys of the subjects of personal data.
//!
//! The keys are in a separate schema, and should be in a separate database, so that backups of the events do not contain
//! them. Each key is wrapped by a [`MasterKey`], so that the schema alone is not enough to read anything.
//!
//! ```no_run
//! use es_core::personal::{Keyring, SealedStore, Subject};
//! use es_postgres::PostgresStore;
//! use es_postgres::keyring::{LocalMasterKey, PostgresKeyring};
//!
//! # async fn example() -> Result<(), es_core::StoreError> {
//! let store = PostgresStore::connect("postgres://app@localhost/orders").await?;
//! let keyring = PostgresKeyring::connect("postgres://app@localhost/keys", LocalMasterKey::from_env()?).await?;
//! keyring.migrate().await?;
//! let store = SealedStore::new(store, keyring.clone());
//!
//! keyring.forget(&Subject::new("17")?).await?;
//! # let _ = store;
//! # Ok(())
//! # }
//! ```

mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::StoreError;
use es_core::clock::{Clock, SystemClock};
use es_core::personal::{KeyState, Keyring, MAX_KEY_AGE, MasterKeys, Subject, WrappedKeyring};
use sqlx::PgPool;

#[doc(no_inline)]
pub use es_core::personal::{LocalMasterKey, MasterKey};

use self::table::Table;
use crate::database::{self, DEFAULT_TIMEOUT, Database};
use crate::schema;

/// The default name of the schema.
const DEFAULT_SCHEMA: &str = "es_keys";

/// A [`Keyring`] in a schema of a PostgreSQL database. Clones share the pool of connections and the cache of keys.
///
/// | operation | round trips | statements |
/// |---|---|---|
/// | keys of up to 1,000 subjects, not cached | 1 | `SELECT` |
/// | key of a new subject | 1 more | `INSERT … ON CONFLICT DO NOTHING`, and a `SELECT` if another process was faster |
/// | forgetting | 1 | `INSERT … ON CONFLICT DO UPDATE` |
///
/// Keys are cached for one minute, unless the [builder](PostgresKeyringBuilder::cache) sets a shorter time. Forgetting a
/// subject also removes its key from the cache of this handle and its clones at once.
///
/// # Atomicity
///
/// The subject is the primary key, so processes that create the key of a subject at the same time agree on one.
/// Forgetting replaces the key by a tombstone, which is never removed, so the subject never gets another key.
///
/// # Lost responses
///
/// If the connection breaks, or no response arrives in time, the error is [`StoreError::Unavailable`]. Commands and
/// projections repeat the request. If [`forget`](Keyring::forget) fails, the subject may or may not be forgotten: repeat
/// it.
#[derive(Clone)]
pub struct PostgresKeyring {
    keys: Arc<WrappedKeyring<Table>>,
}

/// Builds a [`PostgresKeyring`] on a pool of connections.
///
/// ```
/// # fn example(pool: sqlx::PgPool) -> Result<(), es_core::StoreError> {
/// use es_postgres::keyring::{LocalMasterKey, PostgresKeyring};
///
/// let keyring = PostgresKeyring::builder(pool, LocalMasterKey::from_env()?).schema("orders_keys").build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct PostgresKeyringBuilder {
    pool: PgPool,
    schema: String,
    original_schema: Option<String>,
    timeout: Duration,
    master_keys: MasterKeys,
    cache: Duration,
    clock: Arc<dyn Clock>,
}

impl PostgresKeyring {
    /// Connects to the database at `url`, and uses the schema `es_keys`. New keys are wrapped under `master_key`.
    ///
    /// The pool and the URL are those of [`PostgresStore::connect`](crate::PostgresStore::connect). For other settings,
    /// create a pool and use [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the URL is invalid or the server rejects the user. [`StoreError::Unavailable`] if the
    /// server does not respond.
    pub async fn connect(url: &str, master_key: impl MasterKey) -> Result<Self, StoreError> {
        let keyring = Self::from_pool(database::connect(url)?, master_key);
        keyring.database().check_connection().await?;
        Ok(keyring)
    }

    /// Returns a keyring on a pool of connections, in the schema `es_keys`. New keys are wrapped under `master_key`.
    ///
    /// # Panics
    ///
    /// Never: the default name of the schema is valid.
    #[must_use]
    pub fn from_pool(pool: PgPool, master_key: impl MasterKey) -> Self {
        Self::builder(pool, master_key).build().expect("the default schema has a valid name")
    }

    /// Returns a builder for a keyring on a pool of connections, which wraps new keys under `master_key`.
    pub fn builder(pool: PgPool, master_key: impl MasterKey) -> PostgresKeyringBuilder {
        PostgresKeyringBuilder {
            pool,
            schema: DEFAULT_SCHEMA.to_owned(),
            original_schema: None,
            timeout: DEFAULT_TIMEOUT,
            master_keys: MasterKeys::new(master_key),
            cache: MAX_KEY_AGE,
            clock: Arc::new(SystemClock),
        }
    }

    /// Creates the schema and its tables, or migrates them to the format of this version. Does nothing if they have it.
    ///
    /// Call it at startup, or execute [`ddl`](Self::ddl) with a user that may create tables. A user that owns the schema
    /// needs no privilege on the database. Several processes may call it at the same time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the server is older than PostgreSQL 14, the database does not have the encoding UTF8,
    /// the user may not create tables, or the schema has the format of a later version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        schema::migrate(self.database()).await
    }

    /// Checks that the schema has the format of this version.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if it is missing or has another format; the error says what to do.
    pub async fn verify(&self) -> Result<(), StoreError> {
        schema::verify(self.database()).await
    }

    /// Returns the SQL statements that create the schema.
    #[must_use]
    pub fn ddl(&self) -> String {
        schema::ddl(self.database())
    }

    /// Wraps all keys under the current master key that are still under a
    /// [previous](PostgresKeyringBuilder::previous_master_key) one. Returns their number.
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

    /// Returns the pool of connections.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.database().pool()
    }

    /// Returns the name of the schema.
    #[must_use]
    pub fn schema(&self) -> &str {
        self.database().schema()
    }

    fn database(&self) -> &Database {
        &self.keys.table().database
    }
}

impl PostgresKeyringBuilder {
    /// Sets the name of the schema (default: `es_keys`): lowercase letters, digits, and `_`. Each schema has a separate
    /// keyring.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Sets the former name of a schema that was renamed, or restored from a backup under another name (default: the
    /// name of the schema). Wrapped keys are bound to it.
    pub fn original_schema(mut self, name: impl Into<String>) -> Self {
        self.original_schema = Some(name.into());
        self
    }

    /// Adds a former master key, under which keys may still be wrapped: see [`PostgresKeyring::rewrap`].
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

    /// Sets how long to wait for a connection, and for the response to each statement (default: 10 s). Afterwards, the
    /// connection is closed, and the request fails with [`StoreError::Unavailable`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the keyring, without a request.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the name of the schema is invalid.
    pub fn build(self) -> Result<PostgresKeyring, StoreError> {
        let Self { pool, schema, original_schema, timeout, master_keys, cache, clock } = self;
        let name = original_schema.unwrap_or_else(|| schema.clone());
        let database = Database::new(pool, schema, &schema::KEYRING, timeout, None)?;
        let keys = WrappedKeyring::new(Table { database }, name, master_keys, cache, clock);
        Ok(PostgresKeyring { keys: Arc::new(keys) })
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Keyring for PostgresKeyring {
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

impl fmt::Debug for PostgresKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresKeyring").field(&self.keys).finish()
    }
}

impl fmt::Debug for PostgresKeyringBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresKeyringBuilder")
            .field("schema", &self.schema)
            .field("master_key", &self.master_keys.current())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
