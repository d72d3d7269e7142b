//! Forgetting subjects.

use std::sync::Arc;

use es_core::personal::KeyState;
use futures_util::future::join_all;

use super::{Keyrings, are_distinct, create, create_in_processes, new_subjects, read};

/// The key of a forgotten subject is gone, and it never gets another one.
pub async fn a_forgotten_subject_never_gets_a_key_again(keyrings: Arc<dyn Keyrings>) {
    let (keyring, subject) = (keyrings.open(), new_subjects(1));
    are_distinct(&create(&*keyring, &subject).await);
    keyring.forget(&subject[0]).await.expect("forgets");
    for keyring in [keyring, keyrings.open(), keyrings.open()] {
        assert_eq!(read(&*keyring, &subject).await, [KeyState::Forgotten]);
        assert_eq!(create(&*keyring, &subject).await, [KeyState::Forgotten]);
    }
}

/// A subject can be forgotten before it has a key.
pub async fn a_subject_without_a_key_can_be_forgotten(keyrings: Arc<dyn Keyrings>) {
    let subject = new_subjects(1);
    keyrings.open().forget(&subject[0]).await.expect("forgets");
    assert_eq!(create(&*keyrings.open(), &subject).await, [KeyState::Forgotten]);
    assert_eq!(read(&*keyrings.open(), &subject).await, [KeyState::Forgotten]);
}

/// Forgetting can be repeated.
pub async fn can_be_repeated(keyrings: Arc<dyn Keyrings>) {
    let (keyring, subject) = (keyrings.open(), new_subjects(1));
    create(&*keyring, &subject).await;
    for _ in 0..2 {
        keyring.forget(&subject[0]).await.expect("forgets");
        keyrings.open().forget(&subject[0]).await.expect("forgets");
    }
    assert_eq!(create(&*keyrings.open(), &subject).await, [KeyState::Forgotten]);
}

/// Other subjects keep their keys.
pub async fn other_subjects_keep_their_keys(keyrings: Arc<dyn Keyrings>) {
    let (keyring, subjects) = (keyrings.open(), new_subjects(5));
    let mut expected = create(&*keyring, &subjects).await;
    for forgotten in [1, 3] {
        keyring.forget(&subjects[forgotten]).await.expect("forgets");
        expected[forgotten] = KeyState::Forgotten;
    }
    assert_eq!(read(&*keyring, &subjects).await, expected);
    assert_eq!(create(&*keyrings.open(), &subjects).await, expected);
}

/// If keys are created while their subjects are forgotten, the subjects stay forgotten.
pub async fn wins_against_creating_at_the_same_time(keyrings: Arc<dyn Keyrings>) {
    let subjects = new_subjects(20);
    let creating = create_in_processes(&*keyrings, &subjects, 4);
    let forgetting = subjects.clone().into_iter().rev().map(|subject| {
        let keyring = keyrings.open();
        tokio::spawn(async move { keyring.forget(&subject).await.expect("forgets") })
    });
    let forgetting: Vec<_> = forgetting.collect();
    let created = join_all(creating).await;
    for forgotten in join_all(forgetting).await {
        forgotten.expect("no panic");
    }
    assert_eq!(create(&*keyrings.open(), &subjects).await, vec![KeyState::Forgotten; 20]);
    let created: Vec<_> = created.into_iter().map(|states| states.expect("no panic")).collect();
    for subject in 0..subjects.len() {
        let mut keys =
            created.iter().map(|states| &states[subject]).filter(|state| **state != KeyState::Forgotten);
        if let Some(first) = keys.next() {
            assert!(matches!(first, KeyState::Known(_)));
            assert!(keys.all(|key| key == first), "a subject had two keys");
        }
    }
}
