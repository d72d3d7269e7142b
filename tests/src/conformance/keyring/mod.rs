//! Rules for keyrings: the keys of the subjects of personal data.

pub mod creating;
pub mod forgetting;

use std::sync::Arc;

use async_trait::async_trait;
use es_core::StoreError;
use es_core::personal::{KeyState, Keyring, LocalMasterKey, MasterKey, Subject, SubjectKey};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// The processes that share a keyring.
pub trait Keyrings: Send + Sync {
    /// Opens the keyring with an empty cache, as a new process does.
    fn open(&self) -> Arc<dyn Keyring>;
}

impl<K: Keyring, F: Fn() -> K + Send + Sync> Keyrings for F {
    fn open(&self) -> Arc<dyn Keyring> {
        Arc::new(self())
    }
}

/// Returns subjects that no other test has.
fn new_subjects(count: usize) -> Vec<Subject> {
    let test = Uuid::new_v4();
    (0..count).map(|number| Subject::new(format!("{number}-{test}")).expect("valid")).collect()
}

async fn create(keyring: &dyn Keyring, subjects: &[Subject]) -> Vec<KeyState> {
    let states = keyring.keys_or_create(subjects).await.expect("creates");
    assert_eq!(states.len(), subjects.len());
    states
}

async fn read(keyring: &dyn Keyring, subjects: &[Subject]) -> Vec<KeyState> {
    let states = keyring.keys(subjects).await.expect("reads");
    assert_eq!(states.len(), subjects.len());
    states
}

/// Creates keys for the subjects in several processes at the same time, in different orders.
fn create_in_processes(
    keyrings: &dyn Keyrings,
    subjects: &[Subject],
    processes: usize,
) -> Vec<JoinHandle<Vec<KeyState>>> {
    let create_in = |process| {
        let (keyring, mut subjects) = (keyrings.open(), subjects.to_vec());
        let rotation = process * subjects.len() / processes;
        tokio::spawn(async move {
            subjects.rotate_left(rotation);
            let mut states = create(&*keyring, &subjects).await;
            states.rotate_right(rotation);
            states
        })
    };
    (0..processes).map(create_in).collect()
}

/// Checks that all subjects have keys, and that all keys differ.
fn are_distinct(states: &[KeyState]) {
    for (index, state) in states.iter().enumerate() {
        assert!(matches!(state, KeyState::Known(_)), "{index}: {state:?}");
        assert!(!states[..index].contains(state), "{index}: the key of another subject");
    }
}

/// A master key that forgets a subject while its key is wrapped.
#[derive(Debug)]
pub struct ForgettingMasterKey {
    /// The master key.
    pub key: LocalMasterKey,
    /// The keyring in which the subject is forgotten.
    pub keyring: Arc<dyn Keyring>,
    /// The subject.
    pub subject: Subject,
}

#[async_trait]
impl MasterKey for ForgettingMasterKey {
    fn id(&self) -> &str {
        self.key.id()
    }

    async fn wrap(&self, table: &str, subject: &Subject, key: &SubjectKey) -> Result<String, StoreError> {
        if *subject == self.subject {
            self.keyring.forget(subject).await?;
        }
        self.key.wrap(table, subject, key).await
    }

    async fn unwrap(&self, table: &str, subject: &Subject, wrapped: &str) -> Result<SubjectKey, StoreError> {
        self.key.unwrap(table, subject, wrapped).await
    }
}
