//! Creating and reading keys.

use std::sync::Arc;

use es_core::personal::{KeyState, Subject};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{Keyrings, are_distinct, create, create_in_processes, new_subjects, read};

/// A key stays the same for all processes.
pub async fn a_key_is_created_once(keyrings: Arc<dyn Keyrings>) {
    let (keyring, subjects) = (keyrings.open(), new_subjects(3));
    let keys = create(&*keyring, &subjects).await;
    are_distinct(&keys);
    assert_eq!(create(&*keyring, &subjects).await, keys);
    assert_eq!(read(&*keyring, &subjects).await, keys);
    assert_eq!(create(&*keyrings.open(), &subjects).await, keys, "in another process");
    assert_eq!(read(&*keyrings.open(), &subjects).await, keys, "in another process");
}

/// Reading creates no key.
pub async fn a_read_creates_nothing(keyrings: Arc<dyn Keyrings>) {
    let subjects = new_subjects(2);
    for _ in 0..2 {
        assert_eq!(read(&*keyrings.open(), &subjects).await, [KeyState::Missing, KeyState::Missing]);
    }
    let keys = create(&*keyrings.open(), &subjects[..1]).await;
    let found = read(&*keyrings.open(), &subjects).await;
    assert_eq!(found, [keys[0].clone(), KeyState::Missing]);
}

/// Keys are returned in the order of the subjects, some of which may occur several times, or be new.
pub async fn keys_are_in_the_order_of_the_subjects(keyrings: Arc<dyn Keyrings>) {
    let subjects = new_subjects(120);
    let keys = create(&*keyrings.open(), &subjects[..100]).await;
    are_distinct(&keys);
    let mut reversed: Vec<_> = subjects.iter().rev().cloned().collect();
    let mut states = read(&*keyrings.open(), &reversed).await;
    states.reverse();
    assert_eq!(states[..100], keys);
    assert_eq!(states[100..], vec![KeyState::Missing; 20]);

    reversed.extend_from_slice(&subjects);
    let states = create(&*keyrings.open(), &reversed).await;
    let (first, second) = states.split_at(120);
    are_distinct(second);
    assert_eq!(second[..100], keys);
    assert!(first.iter().rev().eq(second), "a subject that occurs twice has one key");
}

/// Subjects that differ in any way have different keys.
pub async fn subjects_of_any_text_are_kept_apart(keyrings: Arc<dyn Keyrings>) {
    let test = Uuid::new_v4();
    let long = "x".repeat(Subject::MAX_BYTES - 36);
    let texts = [
        "ann",
        "Ann",
        "ann ",
        " ann",
        "änn",
        "a\u{308}nn",
        "ann'",
        "ann\"",
        "ann%",
        "ann\\",
        "ann{}",
        "a,b",
        "🗝",
        &long,
    ];
    let subjects = texts.map(|text| Subject::new(format!("{test}{text}")).expect("valid"));
    let keys = create(&*keyrings.open(), &subjects).await;
    are_distinct(&keys);
    assert_eq!(read(&*keyrings.open(), &subjects).await, keys);
}

/// Processes that create the keys of the same subjects at the same time get the same keys.
pub async fn processes_at_the_same_time_agree(keyrings: Arc<dyn Keyrings>) {
    let subjects = new_subjects(20);
    let keys = join_all(create_in_processes(&*keyrings, &subjects, 6)).await;
    let stored = read(&*keyrings.open(), &subjects).await;
    are_distinct(&stored);
    for keys in keys {
        assert_eq!(keys.expect("no panic"), stored);
    }
}
