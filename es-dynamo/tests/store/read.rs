//! Reading: the number of requests of a load, for all contents of the table.

use es_core::documents::{DocumentKey, Documents};
use es_core::feed::{Feed, Slice};
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, AppendError, Claim, IdempotencyKey, Read};
use es_core::{EventStore, ExpectedVersion, StoreError, Version};
use es_dynamo::DynamoStore;

use super::support::*;

const SHAPE: Fingerprint = Fingerprint::new(7);

fn snapshot(version: u64) -> Snapshot {
    Snapshot::new(Version::new(version), time(), SHAPE, format!("{{\"version\":{version}}}"))
}

async fn keep(store: &DynamoStore, snapshot: &Snapshot) {
    store.write_snapshot(&stream(), snapshot, None).await.expect("writes");
}

fn from_snapshot(longest_tail: u32) -> Read {
    Read::all(stream()).from_snapshot(SHAPE, longest_tail)
}

/// Reads, and checks that the pages are in order and that the cost includes every request.
async fn load(watched: &Watched, read: Read) -> Loaded {
    watched.wire.seen();
    let pages = pages(&watched.store, read).await.expect("reads");
    assert!(pages.iter().skip(1).all(|page| page.snapshot.is_none() && page.unusable_snapshot.is_none()));
    let requests = watched.wire.seen();
    let cost: es_core::Cost = pages.iter().map(|page| page.cost).sum();
    assert_eq!(cost.requests as usize, requests.len(), "{requests:?}");
    Loaded {
        snapshot: pages[0].snapshot.as_ref().map(|found| found.version().get()),
        unusable: pages[0].unusable_snapshot.map(Version::get),
        ends: ends_of(&pages),
        requests: requests.len(),
        read_units: cost.read_units,
    }
}

#[derive(Debug, PartialEq)]
struct Loaded {
    snapshot: Option<u64>,
    unusable: Option<u64>,
    ends: Vec<(u64, u64)>,
    requests: usize,
    read_units: f64,
}

fn singles(versions: std::ops::RangeInclusive<u64>) -> Vec<(u64, u64)> {
    versions.map(|version| (version, version)).collect()
}

#[tokio::test]
async fn a_missing_stream_takes_one_request() {
    let watched = watched().await;
    for read in [Read::all(stream()), from_snapshot(100)] {
        let loaded = load(&watched, read).await;
        assert_eq!((loaded.requests, loaded.read_units, loaded.ends), (1, 1.0, vec![]));
    }
}

/// The number of requests and the events do not depend on the position of the snapshot.
#[tokio::test]
async fn a_short_stream_takes_one_request_with_any_snapshot() {
    let all = vec![(1, 1), (2, 4), (5, 6), (7, 7)];
    let (time, state) = (time(), "{}".to_owned());
    let damaged = Snapshot::from_stored(Version::new(4), time, SHAPE, state.clone(), 12345);
    let foreign = Snapshot::new(Version::new(4), time, Fingerprint::new(8), state);
    for (name, kept, used, unusable, tail) in [
        ("none", None, None, None, &all[..]),
        ("of the end", Some(snapshot(7)), Some(7), None, &all[4..]),
        ("of the middle", Some(snapshot(4)), Some(4), None, &all[2..]),
        ("of the start", Some(snapshot(1)), Some(1), None, &all[1..]),
        ("ahead", Some(snapshot(8)), None, Some(8), &all[..]),
        ("far ahead", Some(snapshot(999_999_999_999)), None, Some(999_999_999_999), &all[..]),
        ("of another shape", Some(foreign), None, Some(4), &all[..]),
        ("damaged", Some(damaged), None, Some(4), &all[..]),
        ("inside a commit", Some(snapshot(3)), None, Some(3), &all[..]),
    ] {
        let watched = watched().await;
        grow(&watched.other, &[1, 3, 2, 1]).await;
        if let Some(kept) = &kept {
            keep(&watched.other, kept).await;
        }
        let loaded = load(&watched, from_snapshot(10)).await;
        assert_eq!((loaded.snapshot, loaded.unusable), (used, unusable), "{name}");
        assert_eq!(loaded.ends, tail, "{name}");
        assert_eq!((loaded.requests, loaded.read_units), (1, 1.0), "{name}");
        // A read without a snapshot request returns no snapshot.
        let loaded = load(&watched, Read::all(stream())).await;
        assert_eq!((loaded.snapshot, loaded.unusable, loaded.requests), (None, None, 1), "{name}");
        assert_eq!(loaded.ends, all, "{name}");
    }
}

/// A snapshot whose stream has no events.
#[tokio::test]
async fn a_snapshot_without_a_stream_is_not_used() {
    let watched = watched().await;
    keep(&watched.other, &snapshot(3)).await;
    let loaded = load(&watched, from_snapshot(10)).await;
    assert_eq!((loaded.snapshot, loaded.unusable, loaded.requests), (None, Some(3), 1));
    assert!(loaded.ends.is_empty());
}

/// Items with the key of a snapshot that are malformed.
#[tokio::test]
async fn a_malformed_snapshot_is_not_used() {
    let cases: [(&str, Option<aws_sdk_dynamodb::types::AttributeValue>, Option<u64>); 11] = [
        ("v", None, None),
        ("v", Some(text("5")), None),
        ("v", Some(number("-5")), None),
        ("v", Some(number("2.5")), None),
        ("v", Some(number("1e30")), None),
        ("v", Some(number("1")), Some(1)), // the checksum tells
        ("at", Some(text("now")), Some(2)),
        ("fp", Some(text("shape")), Some(2)),
        ("ck", Some(number("99999999999")), Some(2)),
        ("ck", None, Some(2)),
        ("st", Some(number("7")), Some(2)),
    ];
    for (name, value, unusable) in cases {
        let watched = watched().await;
        grow(&watched.other, &[1, 1, 1]).await;
        keep(&watched.other, &snapshot(2)).await;
        let mut item = get(&watched.other, "S#").await;
        let shown = format!("{name} = {value:?}");
        match value {
            Some(value) => drop(item.insert(name.to_owned(), value)),
            None => drop(item.remove(name)),
        }
        put(&watched.other, item).await;
        let loaded = load(&watched, from_snapshot(10)).await;
        assert_eq!((loaded.snapshot, loaded.unusable), (None, unusable), "{shown}");
        assert_eq!((loaded.ends, loaded.requests), (singles(1..=3), 1), "{shown}");
    }
}

/// The expected number of commits takes one request. More commits take two, and no commit is read twice.
#[tokio::test]
async fn a_tail_that_is_longer_than_expected_takes_more_requests() {
    let watched = watched().await;
    grow(&watched.other, &[1; 20]).await;
    for (version, longest_tail, requests) in
        [(10, 10, 1), (10, 9, 1), (10, 8, 2), (10, 1, 2), (10, 0, 2), (20, 0, 1), (19, 0, 1), (1, 100, 1)]
    {
        keep(&watched.other, &snapshot(version)).await;
        let kept = load(&watched, from_snapshot(100)).await.snapshot.expect("is kept");
        delete(&watched.other, "S#").await;
        assert_eq!(kept, version);
        keep(&watched.other, &snapshot(version)).await;
        let loaded = load(&watched, from_snapshot(longest_tail)).await;
        let expected = (Some(version), singles(version + 1..=20), requests);
        assert_eq!((loaded.snapshot, loaded.ends, loaded.requests), expected, "{version}, {longest_tail}");
        delete(&watched.other, "S#").await;
    }
    let loaded = load(&watched, from_snapshot(5)).await;
    assert_eq!((loaded.ends, loaded.requests), (singles(1..=20), 2), "without a snapshot");
    let loaded = load(&watched, from_snapshot(18)).await;
    assert_eq!((loaded.ends, loaded.requests), (singles(1..=20), 1), "it just fits");
}

/// A read that knows the version of the snapshot returns few older commits. A wrong version changes nothing else.
#[tokio::test]
async fn a_known_version_of_the_snapshot_saves_read_units() {
    let watched = watched().await;
    grow(&watched.other, &[1; 150]).await;
    keep(&watched.other, &snapshot(140)).await;
    let blind = load(&watched, from_snapshot(100)).await;
    assert_eq!((blind.requests, blind.read_units > 2.5), (1, true), "{}", blind.read_units);
    for (known, requests) in
        [(1, 1), (100, 1), (139, 1), (140, 1), (149, 1), (150, 2), (159, 2), (999_999, 2)]
    {
        let read = from_snapshot(100).with_known_snapshot(Version::new(known));
        let loaded = load(&watched, read).await;
        assert_eq!((loaded.snapshot, loaded.unusable), (Some(140), None), "{known}");
        assert_eq!((loaded.ends, loaded.requests), (singles(141..=150), requests), "{known}");
        if known == 140 {
            assert_eq!(loaded.read_units, 1.0);
        }
    }
    delete(&watched.other, "S#").await;
    let loaded = load(&watched, from_snapshot(100).with_known_snapshot(Version::new(140))).await;
    assert_eq!((loaded.snapshot, loaded.ends, loaded.requests), (None, singles(1..=150), 2), "it is gone");
    // The commit that ends with the snapshot starts before the read.
    grow(&watched.other, &[20]).await;
    keep(&watched.other, &snapshot(170)).await;
    let loaded = load(&watched, from_snapshot(100).with_known_snapshot(Version::new(170))).await;
    assert_eq!((loaded.snapshot, loaded.ends, loaded.requests), (Some(170), vec![], 2));
}

/// Pages end at 1 MB. Commits that were read from the end of the stream are not read again.
#[tokio::test]
async fn a_stream_over_2_megabytes_is_as_many_requests_as_pages() {
    let watched = watched().await;
    fill(&watched.other, 30, 100 * 1024).await; // about 10 commits are a page
    let loaded = load(&watched, Read::all(stream())).await;
    assert_eq!((loaded.ends, loaded.requests), (singles(1..=30), 3));
    let everything = loaded.read_units;
    let loaded = load(&watched, from_snapshot(1000)).await;
    assert_eq!(loaded.ends, singles(1..=30));
    assert!(loaded.requests <= 4, "{}", loaded.requests);
    assert!(loaded.read_units <= everything * 1.05, "{} for {everything}", loaded.read_units);
    let loaded = load(&watched, Read::all(stream()).until(Version::new(5))).await;
    assert_eq!((loaded.ends, loaded.requests), (singles(1..=5), 1));

    for (version, requests) in [(29, 1), (15, 2), (2, 3)] {
        delete(&watched.other, "S#").await;
        keep(&watched.other, &snapshot(version)).await;
        let loaded = load(&watched, from_snapshot(1000)).await;
        let expected = (Some(version), singles(version + 1..=30), requests);
        assert_eq!((loaded.snapshot, loaded.ends, loaded.requests), expected, "{version}");
    }
    // Each page is the result of one Query, except the last one, which consists of two.
    let pages = pages(&watched.store, from_snapshot(1000)).await.expect("reads");
    assert!(pages.iter().all(|page| page.commits.len() <= 21));
}

/// DynamoDB may end a page at any item, even before the first.
#[tokio::test]
async fn empty_pages_are_followed() {
    use serde_json::{Value, json};
    let empty = |body: &mut Value| {
        body["Items"] = json!([]);
        body["Count"] = json!(0);
        // As if the page had ended at the end of the range, where the next page starts.
        body["LastEvaluatedKey"] = json!({"pk": {"S": "order#ann"}, "sk": {"S": "E#999999999999"}});
    };
    // A page with only the snapshot, and more pages after it.
    let snapshot_only = |body: &mut Value| {
        let items = body["Items"].as_array_mut().expect("items");
        items.truncate(1);
        assert_eq!(items[0]["sk"]["S"], "S#");
        body["Count"] = json!(1);
        body["LastEvaluatedKey"] = json!({"pk": {"S": "order#ann"}, "sk": {"S": "S#"}});
    };
    let watched = watched().await;
    grow(&watched.other, &[1, 2, 1]).await;
    keep(&watched.other, &snapshot(3)).await;

    watched.wire.once("Query", Act::Change(snapshot_only));
    let loaded = load(&watched, from_snapshot(10)).await;
    assert_eq!((loaded.snapshot, loaded.ends, loaded.requests), (Some(3), vec![(4, 4)], 2));
    watched.wire.once("Query", Act::Change(empty));
    let head = watched.store.head(&stream()).await.expect("is known");
    assert_eq!((head.version, head.cost.requests), (Version::new(4), 2));
}

#[tokio::test]
async fn every_read_reports_a_missing_commit() {
    for missing in [1, 3, 4] {
        let watched = watched().await;
        grow(&watched.other, &[1; 6]).await;
        keep(&watched.other, &snapshot(2)).await;
        delete(&watched.other, &commit_key(missing)).await;
        for (read, hidden) in [
            (Read::all(stream()), false),
            (from_snapshot(10), missing == 1), // the snapshot stands for it
            (from_snapshot(1), missing == 1),
            (Read::all(stream()).until(Version::new(5)), false),
            (Read::all(stream()).after(Version::new(2)), missing == 1),
        ] {
            match pages(&watched.store, read.clone()).await {
                Ok(_) => assert!(hidden, "{missing}: {read:?}"),
                Err(error) => {
                    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
                    let expected = format!("`order#ann` is corrupt: after version {}", missing - 1);
                    assert!(!hidden && error.to_string().contains(&expected), "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_read_after_a_version_reads_nothing_before_it() {
    let watched = watched().await;
    fill(&watched.other, 12, 8 * 1024).await;
    let loaded = load(&watched, Read::all(stream()).after(Version::new(11))).await;
    assert_eq!((loaded.ends, loaded.requests), (vec![(12, 12)], 1));
    assert!(loaded.read_units <= 3.0, "{}", loaded.read_units);
    let loaded = load(&watched, Read::all(stream()).after_loaded(Version::new(12))).await;
    assert_eq!((loaded.ends, loaded.requests, loaded.read_units), (vec![], 1, 1.0));
    // A state that is already loaded needs no snapshot.
    keep(&watched.other, &snapshot(12)).await;
    let loaded = load(&watched, from_snapshot(10).after(Version::new(10))).await;
    assert_eq!((loaded.snapshot, loaded.ends), (None, singles(11..=12)));
}

/// Only the first request may be eventually consistent, because the responses of two replicas may not be consistent.
#[tokio::test]
async fn an_eventual_read_is_strongly_consistent_from_the_second_request_on() {
    let watched = watched().await;
    fill(&watched.other, 12, 100 * 1024).await; // more than a page
    for read in [Read::all(stream()), from_snapshot(1), from_snapshot(100)] {
        let strong = load(&watched, read.clone()).await;
        watched.wire.bodies();
        let eventual = load(&watched, read.clone().eventually()).await;
        assert_eq!((&eventual.ends, eventual.requests), (&strong.ends, strong.requests), "{read:?}");
        assert!(eventual.read_units < strong.read_units, "{read:?}");
        let consistent: Vec<_> =
            watched.wire.bodies().iter().map(|body| body["ConsistentRead"] == true).collect();
        assert!(consistent.len() > 1 && !consistent[0], "{read:?}");
        assert!(consistent[1..].iter().all(|consistent| *consistent), "{read:?}");
    }
    let short = load(&watched, Read::all(stream()).after(Version::new(11)).eventually()).await;
    assert_eq!((short.ends, short.requests), (vec![(12, 12)], 1));
}

/// Every kind of item has a format number. Reading an item with an unknown one fails.
#[tokio::test]
async fn an_item_of_an_unknown_format_is_named() {
    let Watched { store, other, engine, .. } = watched().await;
    let put_unknown = async |partition: &str, sort: &str| {
        let item = [("pk", text(partition)), ("sk", text(sort)), ("f", number("7"))];
        put(&other, item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).await;
    };
    let named = |error: StoreError| {
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("the format 7, which this version does not support"), "{error}");
    };

    grow(&other, &[1]).await;
    let mut commit = get(&store, "E#000000000001").await;
    for (format, is_known) in [("1", true), ("7", false)] {
        commit.insert("f".to_owned(), number(format));
        put(&other, commit.clone()).await;
        let (read, head) = (pages(&store, Read::all(stream())).await, store.head(&stream()).await);
        assert_eq!((read.is_ok(), head.is_ok()), (is_known, is_known), "format {format}");
        for error in [read.err(), head.err()].into_iter().flatten() {
            named(error);
        }
    }
    let append = Append::new(stream(), ExpectedVersion::NoStream, commit_of(events_of(1, 10)));
    match store.append(&append).await.expect_err("cannot be compared") {
        AppendError::Store(error) => named(error),
        error => panic!("{error:?}"),
    }

    put_unknown("$claim#email#a", "C#").await;
    named(store.claim_holder(&Claim::new("email", "a").expect("valid")).await.expect_err("unknown"));
    put_unknown("$once#order#ann", "I#k").await;
    let key = IdempotencyKey::new(Some(stream()), "k").expect("valid");
    named(store.idempotency_record(&key).await.expect_err("unknown"));
    put_unknown("$doc#rows", "D#ann").await;
    let key = DocumentKey::new("rows", "ann");
    named(store.document(&key).await.expect_err("unknown"));
    put_unknown("$feed#0", "P#00000000000000000001").await;
    named(store.feed_end(Slice::new(0)).await.expect_err("unknown"));
    put_unknown("$feed", "C#").await;
    let (fresh, _) = watch(&engine, aws_sdk_dynamodb::config::retry::RetryConfig::disabled());
    named(fresh.slices().await.expect_err("unknown"));
}
