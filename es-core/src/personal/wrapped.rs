//! A keyring that wraps the keys of subjects under a master key, and stores them in a table.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt;

use super::key_cache::{KeyCache, Reading};
use super::{KeyState, Keyring, MAX_KEY_AGE, MasterKeys, Subject, SubjectKey};
use crate::clock::Clock;
use crate::store::StoreError;

/// The maximum number of keys that are unwrapped at the same time, which matters if the master key is in another
/// process.
const UNWRAPPED_AT_ONCE: usize = 10;

/// The key of a subject, encrypted under a master key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrappedKey {
    /// The text that [`MasterKey::wrap`](super::MasterKey::wrap) returned.
    pub text: String,
    /// The id of the master key.
    pub master_key: String,
}

impl WrappedKey {
    /// Creates a wrapped key from the text and the id of the master key.
    #[must_use]
    pub fn new(text: impl Into<String>, master_key: impl Into<String>) -> Self {
        Self { text: text.into(), master_key: master_key.into() }
    }
}

/// What a [`KeyTable`] stores about a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRecord {
    /// The subject.
    pub subject: Subject,
    /// The subject's key. `None` if the subject was forgotten: the record is a tombstone.
    pub key: Option<WrappedKey>,
}

impl KeyRecord {
    /// Creates a record from a subject and its key, or `None` for a tombstone.
    #[must_use]
    pub fn new(subject: Subject, key: Option<WrappedKey>) -> Self {
        Self { subject, key }
    }
}

/// Stores wrapped keys, for authors of a keyring: see [`WrappedKeyring`].
///
/// Reads are strongly consistent. A record is never deleted: a tombstone keeps a subject from getting another key.
///
/// # Errors
///
/// All methods return [`StoreError`]. If a response is lost, the outcome of a write is unknown, and the caller repeats
/// it.
#[async_trait]
pub trait KeyTable: fmt::Debug + Send + Sync + 'static {
    /// The maximum number of subjects of a [`read`](Self::read).
    const MAX_SUBJECTS: usize;

    /// Reads the records of distinct subjects, in any order. Subjects without a record are left out.
    fn read<'a>(&'a self, subjects: &'a [Subject]) -> BoxStream<'a, Result<KeyRecord, StoreError>>;

    /// Reads all records, in any order.
    fn list(&self) -> BoxStream<'_, Result<KeyRecord, StoreError>>;

    /// Inserts the key of a subject that has no record. Otherwise changes nothing, and returns the existing record.
    async fn insert(&self, subject: &Subject, key: &WrappedKey) -> Result<Option<KeyRecord>, StoreError>;

    /// Replaces the key of a subject if it is `old`. Returns whether it was replaced.
    async fn replace(
        &self,
        subject: &Subject,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<bool, StoreError>;

    /// Replaces the record of a subject by a tombstone, or inserts one.
    async fn forget(&self, subject: &Subject) -> Result<(), StoreError>;
}

/// A [`Keyring`] in a table of any database, for authors of a keyring. Each key is wrapped by a
/// [master key](MasterKeys), so that the table alone is not enough to read anything.
///
/// Keys are cached, at most for [`MAX_KEY_AGE`]. Forgetting a subject removes its key from the cache at once.
pub struct WrappedKeyring<T> {
    table: T,
    /// The name to which wrapped keys are bound.
    name: String,
    master_keys: MasterKeys,
    cache: KeyCache,
}

impl<T: KeyTable> WrappedKeyring<T> {
    /// Creates a keyring in `table`.
    ///
    /// Wrapped keys are bound to `name`, so that they cannot be copied to another keyring. It is usually the name of the
    /// table, and must not change. Keys are cached for `cache`, at most [`MAX_KEY_AGE`], by the monotonic time of
    /// `clock`.
    #[must_use]
    pub fn new(
        table: T,
        name: impl Into<String>,
        master_keys: MasterKeys,
        cache: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let cache = KeyCache::new(cache.min(MAX_KEY_AGE), clock);
        Self { table, name: name.into(), master_keys, cache }
    }

    /// Returns the table.
    #[must_use]
    pub fn table(&self) -> &T {
        &self.table
    }

    /// Wraps all keys under the current master key that are still under a previous one. Returns their number.
    ///
    /// The call can be repeated at any time, and continues where an earlier one has stopped. Keys that are forgotten or
    /// rewrapped meanwhile are left alone.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if a request fails, or a key is under a master key that the keyring does not have.
    pub async fn rewrap(&self) -> Result<u64, StoreError> {
        let current = self.master_keys.current();
        let (mut records, mut rewrapped) = (self.table.list(), 0);
        while let Some(KeyRecord { subject, key }) = records.try_next().await? {
            let Some(old) = key.filter(|key| key.master_key != current.id()) else { continue };
            let key = self.unwrap(&subject, &old).await?;
            let new = WrappedKey::new(current.wrap(&self.name, &subject, &key).await?, current.id());
            rewrapped += u64::from(self.table.replace(&subject, &old, &new).await?);
        }
        Ok(rewrapped)
    }

    async fn unwrap(&self, subject: &Subject, key: &WrappedKey) -> Result<SubjectKey, StoreError> {
        let Some(master_key) = self.master_keys.get(&key.master_key) else {
            let reason = format!(
                "the key of the subject `{subject}` is wrapped by the master key `{}`, and the keyring has `{}`: add it with \
                 `previous_master_key`",
                key.master_key,
                self.master_keys.current().id()
            );
            return Err(StoreError::setup(reason, None));
        };
        master_key.unwrap(&self.name, subject, &key.text).await
    }

    async fn state(&self, record: KeyRecord) -> Result<(Subject, KeyState), StoreError> {
        let state = match &record.key {
            Some(key) => KeyState::Known(self.unwrap(&record.subject, key).await?),
            None => KeyState::Forgotten,
        };
        Ok((record.subject, state))
    }

    /// Returns and caches the state of a record that was read.
    async fn cached_state(
        &self,
        record: KeyRecord,
        reading: Reading,
    ) -> Result<(Subject, KeyState), StoreError> {
        let (subject, state) = self.state(record).await?;
        self.cache.put(&subject, &state, reading);
        Ok((subject, state))
    }

    /// Reads the keys of at most [`KeyTable::MAX_SUBJECTS`] subjects, and caches each one as soon as it is unwrapped. If
    /// the master key is throttled, another call therefore continues with the others.
    async fn read(&self, subjects: &[Subject]) -> Result<HashMap<Subject, KeyState>, StoreError> {
        let reading = self.cache.begin();
        let records = self.table.read(subjects);
        let states = records.map_ok(|record| self.cached_state(record, reading));
        states.try_buffer_unordered(UNWRAPPED_AT_ONCE).try_collect().await
    }

    /// Creates the key of a subject, or returns the one that another process has created.
    async fn create(&self, subject: &Subject) -> Result<KeyState, StoreError> {
        let master_key = self.master_keys.current();
        let (key, text) = master_key.generate(&self.name, subject).await?;
        // The existing record may be that of an earlier attempt without a response.
        match self.table.insert(subject, &WrappedKey::new(text, master_key.id())).await? {
            None => Ok(KeyState::Known(key)),
            Some(existing) => Ok(self.state(existing).await?.1),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: KeyTable> Keyring for WrappedKeyring<T> {
    async fn keys(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        let mut known: HashMap<Subject, KeyState> = HashMap::new();
        let mut unknown = Vec::new();
        for subject in subjects {
            match self.cache.get(subject) {
                Some(state) => drop(known.insert(subject.clone(), state)),
                None if unknown.contains(subject) => {}
                None => unknown.push(subject.clone()),
            }
        }
        for batch in unknown.chunks(T::MAX_SUBJECTS) {
            known.extend(self.read(batch).await?);
        }
        let states = subjects.iter().map(|subject| known.get(subject).cloned());
        Ok(states.map(|state| state.unwrap_or(KeyState::Missing)).collect())
    }

    async fn keys_or_create(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        let mut states = self.keys(subjects).await?;
        for (subject, state) in subjects.iter().zip(&mut states) {
            if *state == KeyState::Missing {
                let reading = self.cache.begin();
                *state = self.create(subject).await?;
                self.cache.put(subject, state, reading);
            }
        }
        Ok(states)
    }

    async fn forget(&self, subject: &Subject) -> Result<(), StoreError> {
        self.cache.forget(subject);
        let forgotten = self.table.forget(subject).await;
        // A read that began before the write must not put the key into the cache again.
        self.cache.forget(subject);
        forgotten
    }
}

impl<T: KeyTable> fmt::Debug for WrappedKeyring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedKeyring")
            .field("table", &self.table)
            .field("master_key", &self.master_keys.current())
            .finish_non_exhaustive()
    }
}
