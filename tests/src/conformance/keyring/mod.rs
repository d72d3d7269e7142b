//! Rules for keyrings: the keys of the subjects of personal data.

pub mod creating;
pub mod forgetting;

use std::sync::Arc;

use es_core::personal::{KeyState, Keyring, Subject};
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

/// Checks that all subjects have keys, and that all keys differ.
fn are_distinct(states: &[KeyState]) {
    for (index, state) in states.iter().enumerate() {
        assert!(matches!(state, KeyState::Known(_)), "{index}: {state:?}");
        assert!(!states[..index].contains(state), "{index}: the key of another subject");
    }
}
