//! Commits whose events are compressed.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::TimeDelta;
use es_core::event::EventData;
use es_core::feed::{Feed, FeedRead, Position};
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, AppendError, Commit, NewCommit, Read, WriteSet};
use es_core::{EventStore, ExpectedVersion, Metadata, StoreError, Version};
use es_dynamo::{DynamoStore, Reconciler};

use super::support::*;

/// Returns a store on the same table that compresses all commits of more than 1 KB.
fn compressing(other: &DynamoStore) -> DynamoStore {
    let client = other.client().clone();
    let builder = DynamoStore::builder().client(client).table(other.table_name());
    builder.compress_commits_above(1024).build().expect("a valid name")
}

/// Events with all characters that JSON escapes, in two schema versions.
fn large(count: usize) -> Vec<EventData> {
    let payload = |number| {
        format!("{{ \"text\":\"\\\"{}\\u0007\u{1F980}\\\\\", \"n\":{number}}}", "lorem ".repeat(100))
    };
    (0..count).map(|number| EventData::new("Noted", 1 + number as u32 % 2, payload(number))).collect()
}

/// Two commits. The second one has metadata, and another time.
fn two() -> [NewCommit; 2] {
    let mut commits = [commit_of(large(3)), commit_of(large(2))];
    commits[1].time = time() + TimeDelta::seconds(1);
    commits[1].metadata = Metadata::new().with_actor("ann");
    commits
}

/// Appends a small commit, a large one, two in one item, and one of several items.
async fn append_all(store: &DynamoStore) {
    let [first, second] = two();
    let parts = commit_of(events_of(3, 250_000)).with_metadata(Metadata::new().with_actor("bob"));
    let append = |commit| Append::new(stream(), ExpectedVersion::Any, commit);
    for append in [
        append(commit(1)),
        append(commit_of(large(2))),
        append(first).with_following([second]),
        append(parts),
    ] {
        store.append(&append).await.expect("appends");
    }
}

async fn commits(store: &DynamoStore, read: Read) -> Vec<Commit> {
    let pages = pages(store, read).await.expect("reads");
    pages.into_iter().flat_map(|page| page.commits).collect()
}

#[tokio::test]
async fn large_commits_are_compressed_if_that_is_cheaper() {
    let Watched { other, .. } = watched().await;
    let store = compressing(&other);
    let random = std::iter::repeat_with(fastrand::alphanumeric).take(1_700).collect::<String>();
    let random = EventData::new("Noted", 1, format!("\"{random}\""));
    let cases = [
        (commit(1), 1.0, false),               // at most 1 KB
        (commit_of(large(2)), 1.0, true),      // 1.5 KB
        (commit_of(large(20)), 1.0, true),     // 14 KB
        (commit_of(vec![random]), 2.0, false), // 1.8 KB, and no less than 1 KB when compressed
    ];
    let mut version = Version::NONE;
    for (index, (commit, units, is_compressed)) in cases.into_iter().enumerate() {
        let done = store.append(&Append::new(stream(), ExpectedVersion::Any, commit)).await.expect("appends");
        assert_eq!(done.cost.write_units, units, "{index}");
        let item = get(&other, &commit_key(version.next().get())).await;
        let has = |name: &str| item.contains_key(name);
        assert_eq!(
            (has("ez"), has("el"), has("ev")),
            (is_compressed, is_compressed, !is_compressed),
            "{index}"
        );
        assert_eq!(item.get("f").cloned(), is_compressed.then(|| number("4")), "{index}");
        version = done.last;
    }
    // Nothing is compressed below the size, or without the setting.
    let builder = DynamoStore::builder().client(other.client().clone()).table(other.table_name());
    let of_larger_ones = builder.compress_commits_above(20_000).build().expect("a valid name");
    for store in [&of_larger_ones, &other] {
        let plain = Append::new(stream(), ExpectedVersion::Any, commit_of(large(20)));
        assert!(store.append(&plain).await.expect("appends").cost.write_units > 10.0);
    }
}

/// Readers return the same commits, with and without the setting.
#[tokio::test]
async fn all_readers_understand_compressed_commits() {
    const SHAPE: Fingerprint = Fingerprint::new(7);
    let plain = watched().await.other;
    append_all(&plain).await;
    let other = watched().await.other;
    let compressing = compressing(&other);
    append_all(&compressing).await;
    for first in [2, 4, 9] {
        assert!(get(&other, &commit_key(first)).await.contains_key("ez"), "version {first}");
    }
    let contents = |commits: Vec<Commit>| -> Vec<_> {
        let content = |commit: Commit| (commit.first, commit.time, commit.metadata, commit.events);
        commits.into_iter().map(content).collect()
    };
    let all = || Read::all(stream());
    let reads =
        [all(), all().after(Version::new(3)), all().after(Version::new(6)), all().until(Version::new(6))];
    for read in reads {
        let expected = contents(commits(&plain, read.clone()).await);
        for store in [&other, &compressing] {
            assert_eq!(contents(commits(store, read.clone()).await), expected, "{read:?}");
        }
    }
    let whole = commits(&other, all()).await;
    for commit in &whole {
        let snapshot = Snapshot::new(commit.last(), commit.time, SHAPE, "{}".to_owned());
        other.write_snapshot(&stream(), &snapshot, None).await.expect("writes");
        let read = all().from_snapshot(SHAPE, 100);
        let pages = pages(&other, read).await.expect("reads");
        assert_eq!(pages[0].snapshot, Some(snapshot));
    }
    // The feed, and its audit.
    let reconciler = Reconciler::builder(&other).build();
    reconciler.run().await.expect("runs");
    assert!(reconciler.audit().await.expect("reads").is_sound());
    let slice = other.slices().await.expect("are known").of(&stream());
    let page = other.read_feed(&FeedRead::new(slice, Position::NONE)).await.expect("reads");
    assert_eq!(page.entries.into_iter().map(|entry| entry.commit).collect::<Vec<_>>(), whole);
    // A conflict returns the commits of the winner.
    let late = Append::after_loaded(stream(), Version::new(3), commit(1));
    let Err(AppendError::Conflict(conflict)) = other.append(&late).await else { panic!("no conflict") };
    assert_eq!(conflict.commits, whole[2..4]);
}

/// The same commit is recognized whether it was compressed or not.
#[tokio::test]
async fn a_lost_response_to_a_compressed_commit_is_recognized() {
    let Watched { store, other, wire, .. } = watched().await;
    let [first, second] = two();
    let single = Append::new(stream(), ExpectedVersion::NoStream, first.clone());
    for append in [single.clone(), single.with_following([second])] {
        wire.plan(|_| Act::LoseAnswer);
        compressing(&store).append(&append).await.expect_err("has no response");
        wire.plan(|_| Act::Pass);
        for store in [&other, &compressing(&other)] {
            let again = store.append(&append).await.expect("is stored");
            assert!(again.repeated && again.last == append.last_version_after(Version::NONE).expect("valid"));
        }
        delete(&other, &commit_key(1)).await;
    }
}

#[tokio::test]
async fn a_transaction_compresses_its_commits() {
    let Watched { other, .. } = watched().await;
    let append = Append::new(stream(), ExpectedVersion::NoStream, commit_of(large(4)));
    let set = WriteSet::new().append(append.clone());
    compressing(&other).write(&set).await.expect("writes");
    assert!(get(&other, &commit_key(1)).await.contains_key("ez"));
    assert_eq!(commits(&other, Read::all(stream())).await[0].events, append.commits()[0].events);
}

#[tokio::test]
async fn damaged_events_are_errors() {
    let Watched { store, other, .. } = watched().await;
    let append = Append::new(stream(), ExpectedVersion::NoStream, commit_of(large(3)));
    compressing(&other).append(&append).await.expect("appends");
    let sound = get(&other, &commit_key(1)).await;
    let length: u64 = sound["el"].as_n().expect("a number").parse().expect("an integer");
    let binary = |bytes: Vec<u8>| Some(AttributeValue::B(Blob::new(bytes)));
    let bytes = sound["ez"].as_b().expect("is binary").as_ref();
    let bomb = || miniz_oxide::deflate::compress_to_vec(&vec![b' '; 50_000_000], 6);
    let json = |text: &str| binary(miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 6));
    let cases = [
        ("no events", "ez", None),
        ("no length", "el", None),
        ("events of another type", "ez", Some(text("secret"))),
        ("a length of another type", "el", Some(text("secret"))),
        ("a negative length", "el", Some(number("-1"))),
        ("a shorter length", "el", Some(number(&(length - 1).to_string()))),
        ("a longer length", "el", Some(number(&(length + 1).to_string()))),
        ("an enormous length", "el", Some(number("18446744073709551615"))),
        ("the first half", "ez", binary(bytes[..bytes.len() / 2].to_vec())),
        ("other bytes", "ez", binary(b"secret".to_vec())),
        ("too many bytes", "ez", binary(bomb())),
        ("no JSON", "ez", json("secret")),
        ("no list", "ez", json("{\"t\":\"secret\"}")),
        ("an unknown format", "f", Some(number("99"))),
    ];
    for (name, attribute, value) in cases {
        let mut damaged = sound.clone();
        match value {
            Some(value) => damaged.insert(attribute.to_owned(), value),
            None => damaged.remove(attribute),
        };
        if name == "too many bytes" {
            damaged.insert("el".to_owned(), number("50000000"));
        }
        put(&other, damaged).await;
        let error =
            pages(&store, Read::all(stream())).await.err().unwrap_or_else(|| panic!("{name} is read"));
        assert!(matches!(error, StoreError::Corrupt { .. }), "{name}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("secret"), "{name}: {error:?}");
    }
    // In format 1, the attributes mean nothing.
    let mut plain = sound.clone();
    plain.remove("f");
    put(&other, plain).await;
    let error = pages(&store, Read::all(stream())).await.expect_err("has no events");
    assert!(error.to_string().contains("one of its attributes is missing"), "{error}");
}
