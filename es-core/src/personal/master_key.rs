//! Master keys, under which the keys of subjects are stored.

use std::env;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{Subject, SubjectKey};
use crate::store::StoreError;

/// The environment variable with the master key.
const MASTER_KEY_VARIABLE: &str = "ES_MASTER_KEY";

/// Wraps the keys of subjects: encrypts them under a key that is not in the table.
///
/// [`LocalMasterKey`] is a key in the memory of the process, and `KmsMasterKey` (in es-dynamo, feature `kms`) a key in
/// AWS KMS. Implement the trait for another key management service.
///
/// A wrapped key must be bound to the subject, and to the name of the keyring's table, or of the schema in its place, so
/// that it cannot be unwrapped for others.
#[async_trait]
pub trait MasterKey: fmt::Debug + Send + Sync + 'static {
    /// Returns an id that differs for each master key. It is stored with each wrapped key.
    fn id(&self) -> &str;

    /// Generates the key of `subject` in `table`. Returns the key, and the key as [`wrap`](Self::wrap) returns it.
    ///
    /// The default implementation generates the key in this process.
    ///
    /// # Errors
    ///
    /// As [`wrap`](Self::wrap).
    async fn generate(&self, table: &str, subject: &Subject) -> Result<(SubjectKey, String), StoreError> {
        let key = SubjectKey::generate()?;
        let wrapped = self.wrap(table, subject, &key).await?;
        Ok((key, wrapped))
    }

    /// Encrypts `key`, the key of `subject` in `table`. Returns a text.
    ///
    /// # Errors
    ///
    /// [`StoreError`], which is retried if it is [retryable](StoreError::is_retryable).
    async fn wrap(&self, table: &str, subject: &Subject, key: &SubjectKey) -> Result<String, StoreError>;

    /// Decrypts a text that [`wrap`](Self::wrap) returned for `subject` in `table`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the text was damaged or belongs to another subject or table: see
    /// [`corrupt_key`]. Otherwise as [`wrap`](Self::wrap).
    async fn unwrap(&self, table: &str, subject: &Subject, wrapped: &str) -> Result<SubjectKey, StoreError>;
}

/// Returns the error of a wrapped key that cannot be decrypted, for implementations of [`MasterKey`].
#[must_use]
pub fn corrupt_key(subject: &Subject) -> StoreError {
    StoreError::corrupt_item(
        format!("the key of the subject `{subject}`"),
        "it was damaged, or belongs to another subject, table, or schema: restore it from a backup, and after a restore \
         under another name, set `original_table` or `original_schema`",
    )
}

/// A master key of 32 bytes in the memory of the process.
///
/// ```
/// use es_core::personal::LocalMasterKey;
///
/// // Generate one with `openssl rand -base64 32`, and keep it in a secrets manager.
/// let key = LocalMasterKey::from_base64("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=")?;
/// assert!(!format!("{key:?}").contains("q83v"), "only an id is printed");
/// # Ok::<_, es_core::StoreError>(())
/// ```
#[derive(Clone)]
pub struct LocalMasterKey {
    id: String,
    key: SubjectKey,
}

impl LocalMasterKey {
    /// Creates a master key from 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; SubjectKey::BYTES]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"es master key id");
        hasher.update(bytes);
        let id = hasher.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id, key: SubjectKey::new(bytes) }
    }

    /// Creates a master key from 32 random bytes in Base64.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the text is not Base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, StoreError> {
        let invalid = |what: &str| {
            let reason = format!("the master key {what}: generate one with `openssl rand -base64 32`");
            StoreError::setup(reason, None)
        };
        let bytes = STANDARD.decode(text.trim()).map_err(|_| invalid("is not Base64"))?;
        let length = bytes.len();
        let bytes = bytes.try_into().map_err(|_| invalid(&format!("has {length} bytes instead of 32")))?;
        Ok(Self::new(bytes))
    }

    /// Reads the master key from the environment variable `ES_MASTER_KEY`, which contains 32 random bytes in
    /// Base64.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the variable is not set, or as [`from_base64`](Self::from_base64).
    pub fn from_env() -> Result<Self, StoreError> {
        let text = env::var(MASTER_KEY_VARIABLE).map_err(|_| {
            let reason = format!(
                "the environment variable {MASTER_KEY_VARIABLE} is not set: set it to the master key, 32 random bytes in Base64"
            );
            StoreError::setup(reason, None)
        })?;
        Self::from_base64(&text)
    }
}

/// The current master key of a keyring, and former ones under which keys may still be wrapped.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    current: Arc<dyn MasterKey>,
    previous: Vec<Arc<dyn MasterKey>>,
}

impl MasterKeys {
    /// Creates the keys from `current`, which wraps new keys.
    #[must_use]
    pub fn new(current: impl MasterKey) -> Self {
        Self { current: Arc::new(current), previous: Vec::new() }
    }

    /// Adds a former master key, which only unwraps.
    #[must_use]
    pub fn with_previous(mut self, key: impl MasterKey) -> Self {
        self.previous.push(Arc::new(key));
        self
    }

    /// Returns the current master key.
    #[must_use]
    pub fn current(&self) -> &dyn MasterKey {
        &*self.current
    }

    /// Returns the master key with an id.
    pub(super) fn get(&self, id: &str) -> Option<&dyn MasterKey> {
        let mut keys = std::iter::once(&self.current).chain(&self.previous);
        keys.find(|key| key.id() == id).map(|key| &**key)
    }
}

/// Returns the authenticated context of a wrapped key.
fn context(table: &str, subject: &Subject) -> Vec<u8> {
    // As JSON, so that the parts cannot run into each other.
    serde_json::to_vec(&["es subject key 1", table, subject.as_str()]).expect("texts have a JSON form")
}

#[async_trait]
impl MasterKey for LocalMasterKey {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, table: &str, subject: &Subject, key: &SubjectKey) -> Result<String, StoreError> {
        self.key.seal(key.as_bytes(), &context(table, subject))
    }

    async fn unwrap(&self, table: &str, subject: &Subject, wrapped: &str) -> Result<SubjectKey, StoreError> {
        let bytes = self.key.open(wrapped, &context(table, subject));
        let bytes = bytes.and_then(|bytes| <[u8; SubjectKey::BYTES]>::try_from(bytes).ok());
        bytes.map(SubjectKey::new).ok_or_else(|| corrupt_key(subject))
    }
}

/// Shows the id, not the key.
impl fmt::Debug for LocalMasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalMasterKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_is_checked() {
        for (text, problem) in [
            ("", "has 0 bytes instead of 32"),
            ("c2hvcnQ=", "has 5 bytes instead of 32"),
            ("not Base64!", "is not Base64"),
        ] {
            let error = LocalMasterKey::from_base64(text).expect_err("refused").to_string();
            assert_eq!(
                error,
                format!("the master key {problem}: generate one with `openssl rand -base64 32`")
            );
        }
        let text = STANDARD.encode([7; 32]);
        let key = LocalMasterKey::from_base64(&format!("{text}\n")).expect("valid");
        assert_eq!(key.id(), LocalMasterKey::new([7; 32]).id());
        assert_ne!(key.id(), LocalMasterKey::new([8; 32]).id());
        assert!(!format!("{key:?}").contains('7') || key.id().contains('7'));
    }

    #[tokio::test]
    async fn a_wrapped_key_belongs_to_its_subject_its_table_and_its_master_key() {
        let (ann, bob) = (Subject::new("ann").expect("valid"), Subject::new("bob").expect("valid"));
        let (master, key) = (LocalMasterKey::new([7; 32]), SubjectKey::new([1; 32]));
        let wrapped = master.wrap("keys", &ann, &key).await.expect("wrapped");
        assert_eq!(master.unwrap("keys", &ann, &wrapped).await.expect("unwrapped"), key);
        let (generated, text) = master.generate("keys", &ann).await.expect("generated");
        assert_eq!(master.unwrap("keys", &ann, &text).await.expect("unwrapped"), generated);
        let other = LocalMasterKey::new([8; 32]);
        for (master, table, subject) in
            [(&master, "keys", &bob), (&master, "others", &ann), (&other, "keys", &ann)]
        {
            let error = master.unwrap(table, subject, &wrapped).await.expect_err("refused");
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        }
    }
}
