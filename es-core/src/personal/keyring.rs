//! Keyrings: the keys of subjects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::SubjectKey;
use crate::keys::has_control_characters;
use crate::store::StoreError;
#[cfg(feature = "testing")]
use crate::testing::{Fault, Faults};

/// A person, or whatever else is forgotten as a whole: the id under which its key is stored.
///
/// The id is stored in plain text next to the sealed data, so use one that does not identify the person, such as a
/// random customer id, and not an email address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// The maximum length of an id, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Creates a subject from its id.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the id is empty, longer than [`MAX_BYTES`](Self::MAX_BYTES), or contains control
    /// characters, or if it starts with `$`, which is reserved.
    pub fn new(id: impl fmt::Display) -> Result<Self, StoreError> {
        let id = id.to_string();
        let wrong = if id.is_empty() {
            "is empty"
        } else if id.len() > Self::MAX_BYTES {
            "is longer than 512 bytes"
        } else if has_control_characters(&id) {
            "contains control characters"
        } else if id.starts_with('$') {
            "starts with `$`, which is reserved"
        } else {
            return Ok(Self(id.into()));
        };
        Err(StoreError::invalid(format!("the id of a subject of personal data {wrong}: use another id")))
    }

    /// Returns the subject whose key digests claims. Applications cannot create it, so it is never forgotten.
    pub(super) fn of_claims() -> Self {
        Self("$claims".into())
    }

    /// Creates a subject from an id that was stored, and was checked before: for authors of a keyring.
    #[must_use]
    pub fn from_stored(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The state of a subject's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The subject has this key.
    Known(SubjectKey),
    /// The subject was forgotten.
    Forgotten,
    /// The subject never had a key.
    Missing,
}

/// Stores the keys of subjects, under which [`Personal`](super::Personal) data is sealed.
///
/// # Atomicity
///
/// Callers that create the key of a subject at the same time get the same key. A subject that was forgotten never gets
/// a key again.
///
/// # Errors
///
/// All methods return [`StoreError`]. Errors that are [retryable](StoreError::is_retryable), such as an outage, are
/// retried by the repository or the projector that needs the key.
#[async_trait]
pub trait Keyring: fmt::Debug + Send + Sync + 'static {
    /// Returns the keys of `subjects`, in their order, without creating any.
    ///
    /// An implementation may return keys that it has read up to [`MAX_KEY_AGE`](super::MAX_KEY_AGE) before.
    async fn keys(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError>;

    /// Returns the keys of `subjects`, in their order, and creates those that are [missing](KeyState::Missing).
    async fn keys_or_create(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError>;

    /// Deletes the key of `subject` permanently. Succeeds if the subject was forgotten before, or never had a key.
    async fn forget(&self, subject: &Subject) -> Result<(), StoreError>;
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<K: Keyring + ?Sized> Keyring for Arc<K> {
    async fn keys(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        (**self).keys(subjects).await
    }

    async fn keys_or_create(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        (**self).keys_or_create(subjects).await
    }

    async fn forget(&self, subject: &Subject) -> Result<(), StoreError> {
        (**self).forget(subject).await
    }
}

/// A keyring in memory, for tests. Clones share the keys.
///
/// ```
/// use es_core::personal::{KeyState, Keyring, MemoryKeyring, Subject};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), es_core::StoreError> {
/// let (keyring, ann) = (MemoryKeyring::new(), Subject::new("customer-17")?);
/// let keys = keyring.keys_or_create(&[ann.clone()]).await?;
/// assert!(matches!(keys[..], [KeyState::Known(_)]));
///
/// keyring.forget(&ann).await?;
/// assert_eq!(keyring.keys_or_create(&[ann]).await?, [KeyState::Forgotten]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryKeyring {
    keys: Arc<Mutex<BTreeMap<Subject, KeyState>>>,
    #[cfg(feature = "testing")]
    faults: Option<Faults>,
}

impl MemoryKeyring {
    /// Creates an empty keyring.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the requests of this handle fail as planned by `faults`.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Executes a request, unless a fault prevents it.
    fn request<T>(
        &self,
        execute: impl FnOnce(&mut BTreeMap<Subject, KeyState>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(feature = "testing")]
        match self.faults.as_ref().and_then(Faults::next) {
            Some(Fault::RequestLost | Fault::InternalError) => {
                return Err(StoreError::unavailable("injected outage of the keyring"));
            }
            Some(Fault::Throttled) => {
                return Err(StoreError::Throttled("injected throttling of the keyring".into()));
            }
            Some(Fault::Refused(_)) => {
                return Err(StoreError::setup("injected rejection by the keyring", None));
            }
            Some(Fault::AnswerLost | Fault::AnswerUnreadable(_) | Fault::Stalled) => {
                execute(&mut keys)?;
                return Err(StoreError::unavailable("injected loss of the keyring's response"));
            }
            _ => {}
        }
        execute(&mut keys)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Keyring for MemoryKeyring {
    async fn keys(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        self.request(|keys| {
            let states = subjects.iter().map(|subject| keys.get(subject).cloned());
            Ok(states.map(|state| state.unwrap_or(KeyState::Missing)).collect())
        })
    }

    async fn keys_or_create(&self, subjects: &[Subject]) -> Result<Vec<KeyState>, StoreError> {
        self.request(|keys| {
            let states = subjects.iter().map(|subject| match keys.get(subject) {
                Some(state) => Ok(state.clone()),
                None => {
                    let state = KeyState::Known(SubjectKey::generate()?);
                    keys.insert(subject.clone(), state.clone());
                    Ok(state)
                }
            });
            states.collect()
        })
    }

    async fn forget(&self, subject: &Subject) -> Result<(), StoreError> {
        self.request(|keys| {
            keys.insert(subject.clone(), KeyState::Forgotten);
            Ok(())
        })
    }
}

impl fmt::Debug for MemoryKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeyring").finish_non_exhaustive()
    }
}
