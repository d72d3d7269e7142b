//! Several commits in one item.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::TimeDelta;
use es_core::feed::{Feed, FeedError, FeedRead, Position, Slice};
use es_core::store::{Append, AppendError, Commit, Conflict, NewCommit, Read};
use es_core::{EventStore, ExpectedVersion, Metadata, StoreError, Version};
use es_dynamo::{DynamoStore, Reconciler};

use crate::support::*;

/// Three commits of 1, 2, and 1 events. Each has another time, and the second one has metadata.
fn three() -> Vec<NewCommit> {
    let mut commits = [1, 2, 1].map(commit);
    for (commit, seconds) in commits.iter_mut().zip(0..) {
        commit.time = time() + TimeDelta::seconds(seconds);
    }
    commits[1].metadata = Metadata::new().with_actor("ann");
    commits.to_vec()
}

fn append_of(expected: ExpectedVersion, commits: Vec<NewCommit>) -> Append {
    let mut commits = commits.into_iter();
    let first = commits.next().expect("at least one");
    Append::new(stream(), expected, first).with_following(commits)
}

async fn append_three(store: &DynamoStore) -> Append {
    let append = append_of(ExpectedVersion::Any, three());
    store.append(&append).await.expect("appends");
    append
}

fn list(values: Vec<AttributeValue>) -> AttributeValue {
    AttributeValue::L(values)
}

fn map(attributes: &[(&str, AttributeValue)]) -> AttributeValue {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    AttributeValue::M(attributes.collect())
}

#[tokio::test]
async fn an_item_has_the_boundaries_of_its_commits() {
    let Watched { store, wire, .. } = watched().await;
    let commits = append_three(&store).await.commits().to_vec();
    assert_eq!(wire.seen().last().map(String::as_str), Some("PutItem"));
    let item = get(&store, "E#000000000001").await;
    let at = |commit: &NewCommit| number(&commit.time.timestamp_millis().to_string());
    let id = |commit: &NewCommit| text(&commit.id.to_string());
    let members = list(vec![
        map(&[("n", number("1")), ("a", at(&commits[0]))]),
        map(&[
            ("n", number("2")),
            ("i", id(&commits[1])),
            ("a", at(&commits[1])),
            ("m", text(r#"{"actor":"ann"}"#)),
        ]),
        map(&[("n", number("1")), ("i", id(&commits[2])), ("a", at(&commits[2]))]),
    ]);
    let expected = [("f", number("2")), ("lv", number("4")), ("gc", members)];
    for (name, value) in expected.into_iter().chain([("id", id(&commits[0])), ("at", at(&commits[2]))]) {
        assert_eq!(item[name], value, "{name}");
    }
    assert_eq!((item["ev"].as_l().expect("a list").len(), item.len()), (4, 8));
}

/// The item that contains a version has a lower key. It is looked for only if nothing follows the version directly.
#[tokio::test]
async fn a_read_from_inside_an_item_takes_one_more_request() {
    let watched = watched().await;
    grow(&watched.other, &[2]).await;
    append_three(&watched.other).await;
    grow(&watched.other, &[1]).await; // ends at 2, 3, 5, 6, 7
    let requests = async |read: Read| {
        watched.wire.seen();
        pages(&watched.store, read).await.expect("reads");
        watched.wire.seen().len()
    };
    for (after, expected) in [(0, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 1), (7, 2)] {
        let read = Read::all(stream()).after(Version::new(after));
        assert_eq!(requests(read).await, expected, "after {after}");
    }
    for after in [2, 6, 7] {
        assert_eq!(requests(Read::all(stream()).after_loaded(Version::new(after))).await, 1);
    }
}

/// The repetition is recognized by all ids, even if the events cannot be decoded any more.
#[tokio::test]
async fn a_lost_response_is_recognized() {
    let Watched { store, other, wire, .. } = watched().await;
    let append = append_of(ExpectedVersion::NoStream, three());
    wire.plan(|_| Act::LoseAnswer);
    let error = store.append(&append).await.expect_err("has no response");
    assert!(matches!(error, AppendError::Store(StoreError::Unavailable(_))), "{error:?}");
    wire.plan(|_| Act::Pass);
    let again = store.append(&append).await.expect("is stored");
    assert_eq!((again.first, again.last, again.repeated), (Version::FIRST, Version::new(4), true));
    assert_eq!(pages(&other, Read::all(stream())).await.expect("reads")[0].commits.len(), 3);
}

/// Each damage is an error for readers. Writers still recognize the item as another commit.
#[tokio::test]
async fn damaged_boundaries_are_errors() {
    let Watched { store, other, .. } = watched().await;
    append_three(&other).await;
    let sound = get(&store, "E#000000000001").await;
    let member = |name: &str, value: Option<AttributeValue>| {
        let mut item = sound.clone();
        let Some(AttributeValue::L(members)) = item.get_mut("gc") else { panic!("a list") };
        let AttributeValue::M(member) = &mut members[1] else { panic!("a map") };
        match value {
            Some(value) => member.insert(name.to_owned(), value),
            None => member.remove(name),
        };
        item
    };
    let with = |name: &str, value: AttributeValue| {
        let mut item = sound.clone();
        item.insert(name.to_owned(), value);
        item
    };
    let members = sound["gc"].as_l().expect("a list").clone();
    let first_id = sound["id"].clone();
    let named_twice = {
        let mut first = members[0].as_m().expect("a map").clone();
        first.insert("i".to_owned(), first_id.clone());
        with("gc", list(vec![AttributeValue::M(first), members[1].clone(), members[2].clone()]))
    };
    let one_event = list(sound["ev"].as_l().expect("a list")[..1].to_vec());
    let damages = [
        ("events of one commit fewer", with("gc", list(members[..2].to_vec()))),
        ("one commit twice", with("gc", list([&members[..], &members[2..]].concat()))),
        ("more commits than there can be", with("gc", list(vec![members[2].clone(); 101]))),
        ("no commits", with("gc", list(vec![]))),
        ("another type", with("gc", text("secret"))),
        ("no events", member("n", Some(number("0")))),
        ("fewer events", member("n", Some(number("1")))),
        ("more events", member("n", Some(number("18446744073709551615")))),
        ("a negative number", member("n", Some(number("-1")))),
        ("no number", member("n", None)),
        ("no id", member("i", None)),
        ("no UUID", member("i", Some(text("secret")))),
        ("an id twice", member("i", Some(first_id))),
        ("the first id twice", named_twice),
        ("no time", member("a", None)),
        ("a time before the first", member("a", Some(number("1")))),
        ("a time after the last", member("a", Some(number("1900000000000")))),
        ("another last time", with("at", number("1"))),
        ("a time out of range", member("a", Some(number("9223372036854775807")))),
        ("no metadata", member("m", Some(text("secret")))),
        ("a part", with("cl", number("9"))),
        ("too few events", with("ev", one_event)),
    ];
    for (name, damaged) in damages {
        put(&other, damaged).await;
        for read in [Read::all(stream()), Read::all(stream()).after(Version::FIRST)] {
            let error = pages(&store, read).await.err().unwrap_or_else(|| panic!("{name} is read"));
            assert!(matches!(error, StoreError::Corrupt { .. }), "{name}: {error:?}");
            assert!(!format!("{error:?} {error}").contains("secret"), "{name}: {error:?}");
        }
        let late = Append::after_loaded(stream(), Version::NONE, commit(1));
        match store.append(&late).await.expect_err("refused") {
            AppendError::Conflict(Conflict { commits, .. }) => assert_eq!(commits, [], "{name}"),
            error => panic!("{name}: {error:?}"),
        }
    }
    // In format 1, the attribute means nothing.
    let mut alone = with("f", number("1"));
    alone.insert("gc".to_owned(), text("anything"));
    put(&other, alone).await;
    assert_eq!(pages(&store, Read::all(stream())).await.expect("reads")[0].commits.len(), 1);
}

async fn indexed() -> (DynamoStore, Vec<Commit>) {
    let Watched { other: store, .. } = watched().await;
    append_three(&store).await;
    append_three(&store).await;
    grow(&store, &[2]).await;
    Reconciler::builder(&store).build().run().await.expect("runs");
    let all = pages(&store, Read::all(stream())).await.expect("reads");
    (store, all.into_iter().flat_map(|page| page.commits).collect())
}

async fn slice(store: &DynamoStore) -> Slice {
    store.slices().await.expect("are known").of(&stream())
}

/// A page that ended inside an item would read the item again for the next page.
#[tokio::test]
async fn a_page_of_the_feed_ends_with_an_item() {
    let (store, all) = indexed().await;
    for (limit, expected) in [(1, vec![4, 8, 10]), (4, vec![4, 8, 10]), (5, vec![8, 10]), (9, vec![10])] {
        for max_bytes in [1, u64::MAX] {
            let (mut read, mut ends) =
                (FeedRead::new(slice(&store).await, Position::NONE).limit(limit), vec![]);
            read = read.max_bytes(max_bytes);
            let mut told = Vec::new();
            loop {
                let page = store.read_feed(&read).await.expect("reads");
                told.extend(page.entries.into_iter().map(|entry| entry.commit));
                ends.push(page.through.get());
                (read.after, read.anchor) = (page.through, page.anchor);
                if page.is_last {
                    break;
                }
            }
            assert_eq!(told, all);
            let expected = if max_bytes == 1 { &vec![4, 8, 10] } else { &expected };
            assert_eq!(&ends, expected, "limit {limit}, {max_bytes} bytes");
        }
    }
}

/// The error for a missing item is about those of its commits that were not delivered.
#[tokio::test]
async fn a_missing_item_is_named_from_inside() {
    let (store, _) = indexed().await;
    delete(&store, "E#000000000005").await;
    for (after, position, first) in [(4, 5, 5), (5, 6, 6), (7, 8, 8)] {
        let read = FeedRead::new(slice(&store).await, Position::new(after));
        let error = store.read_feed(&read).await.expect_err("is missing");
        let StoreError::Feed(error) = error else { panic!("{error:?}") };
        let FeedError::Missing(missing) = *error else { panic!("{error:?}") };
        assert_eq!((missing.position, missing.first), (Position::new(position), Version::new(first)));
        assert_eq!((missing.last_position(), missing.last), (Position::new(8), Version::new(8)));
    }
}

/// The feed refers to items, so another item with the same versions is not the same.
#[tokio::test]
async fn an_audit_compares_items() {
    let (store, all) = indexed().await;
    let audit = async || Reconciler::builder(&store).build().audit().await.expect("reads");
    let report = audit().await;
    assert!(report.is_sound() && report.events == 10, "{report:?}");
    // Commits that were stored one by one, instead of as one.
    let mut item = get(&store, "E#000000000001").await;
    for (name, value) in [("f", number("1")), ("md", text("{}"))] {
        item.insert(name.to_owned(), value);
    }
    item.insert("id".to_owned(), text(&all[1].id.to_string()));
    put(&store, item).await;
    assert_eq!(audit().await.contradicting.into_keys().collect::<Vec<_>>(), [stream()]);
}
