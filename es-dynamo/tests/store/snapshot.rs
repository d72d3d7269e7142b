//! Writing snapshots, and the snapshots that they replace.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::Read;
use es_core::{EventStore, StoreError, Version};
use es_dynamo::DynamoStore;

use super::support::*;

const SHAPE: Fingerprint = Fingerprint::new(u64::MAX);

fn snapshot(version: u64) -> Snapshot {
    Snapshot::new(Version::new(version), time(), SHAPE, format!("{{\"version\":{version}}}"))
}

async fn kept(store: &DynamoStore) -> Option<Snapshot> {
    let read = Read::all(stream()).from_snapshot(SHAPE, 10);
    pages(store, read).await.expect("reads").remove(0).snapshot
}

#[tokio::test]
async fn takes_one_request_even_if_there_is_a_newer_snapshot() {
    let Watched { store, wire, other, .. } = watched().await;
    grow(&other, &[1; 5]).await;
    for (version, stored) in [(2, 2), (1, 2), (2, 2), (5, 5), (4, 5)] {
        let cost = store.write_snapshot(&stream(), &snapshot(version), None).await.expect("no error");
        assert_eq!(units(cost), (1, 0.0, 1.0), "{version}");
        assert_eq!(wire.seen(), ["PutItem"]);
        assert_eq!(kept(&other).await, Some(snapshot(stored)), "after {version}");
    }
}

#[tokio::test]
async fn replaces_only_the_snapshot_that_was_unusable() {
    let Watched { store, other, .. } = watched().await;
    grow(&other, &[1; 3]).await;
    store.write_snapshot(&stream(), &snapshot(900), None).await.expect("no error");
    for (replaces, stored) in [(None, None), (Some(901), None), (Some(900), Some(snapshot(3)))] {
        let replaces = replaces.map(Version::new);
        store.write_snapshot(&stream(), &snapshot(3), replaces).await.expect("no error");
        assert_eq!(kept(&other).await, stored, "{replaces:?}");
    }
}

/// An item with the key of a snapshot and without a comparable version must be replaceable.
#[tokio::test]
async fn replaces_an_item_without_a_version() {
    let cases: [Option<AttributeValue>; 6] = [
        None,
        Some(text("900")),
        Some(AttributeValue::Bool(true)),
        Some(number("-1")),
        Some(number("1000000000000")),
        Some(number("1e100")),
    ];
    for version in cases {
        let Watched { store, other, .. } = watched().await;
        grow(&other, &[1; 3]).await;
        let mut item = Item::from([("pk".to_owned(), text("order#ann")), ("sk".to_owned(), text("S#"))]);
        let shown = format!("{version:?}");
        if let Some(version) = version {
            item.insert("v".to_owned(), version);
        }
        put(&other, item).await;
        store.write_snapshot(&stream(), &snapshot(2), None).await.expect("no error");
        assert_eq!(kept(&other).await, Some(snapshot(2)), "{shown}");
    }
}

#[tokio::test]
async fn is_refused_before_sending_if_it_is_too_large() {
    let Watched { store, wire, .. } = watched().await;
    // pk 2 + 9, sk 2 + 2, v 1 + 2, at 2 + 8, fp 2 + 16, ck 2 + up to 6, st 2: 56 in all.
    let large = |bytes: usize| Snapshot::new(Version::FIRST, time(), SHAPE, "x".repeat(bytes));
    store.write_snapshot(&stream(), &large(409_600 - 56), None).await.expect("fits");
    wire.seen();
    let error = store.write_snapshot(&stream(), &large(409_600), None).await.expect_err("too large");
    let StoreError::TooLarge { what, bytes, limit, .. } = &error else { panic!("{error:?}") };
    assert_eq!((what.as_str(), *limit), ("a snapshot of the stream `order#ann`", 409_600));
    assert!((409_600 + 50..=409_600 + 56).contains(bytes), "{bytes}");
    assert_eq!(wire.seen(), Vec::<String>::new());
}

/// The item is that of the table format.
#[tokio::test]
async fn is_stored_as_documented() {
    let Watched { store, .. } = watched().await;
    let written = snapshot(42);
    store.write_snapshot(&stream(), &written, None).await.expect("writes");
    let item = get(&store, "S#").await;
    let expected = Item::from([
        ("pk".to_owned(), text("order#ann")),
        ("sk".to_owned(), text("S#")),
        ("v".to_owned(), number("42")),
        ("at".to_owned(), number("1800000000123")),
        ("fp".to_owned(), text("ffffffffffffffff")),
        ("ck".to_owned(), number(&written.checksum().to_string())),
        ("st".to_owned(), text("{\"version\":42}")),
    ]);
    assert_eq!(item, expected);
}

/// A state like those of an order with a hundred lines.
fn order(bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut lines = Vec::new();
    while serde_json::to_string(&lines).expect("JSON").len() < bytes {
        lines.push(serde_json::json!({
            "article": format!("sku-{}", random.u32(1..100_000)),
            "title": *random.choice(&["blue shirt", "steel bottle", "wooden chair", "green lamp"]).expect("some"),
            "quantity": random.u32(1..20),
            "cents": random.u32(99..50_000),
            "added_at": format!("2026-{:02}-{:02}T12:00:00Z", random.u32(1..13), random.u32(1..29)),
        }));
    }
    serde_json::to_string(&lines).expect("JSON")
}

fn state(state: String) -> Snapshot {
    Snapshot::new(Version::new(1), time(), SHAPE, state)
}

/// The smallest form that is billed less; nothing is compressed for less than a unit.
#[tokio::test]
async fn is_compressed_if_that_saves_a_unit() {
    let mut random = fastrand::Rng::with_seed(7);
    let random = (0..1_500).map(|_| char::from(random.u8(b' '..=b'~'))).collect::<String>();
    for (json, is_compressed, most_units) in [
        (order(20_000), true, 6.0),
        ("a".repeat(1_100), true, 1.0),
        ("a".repeat(900), false, 1.0),
        (random, false, 2.0),
    ] {
        let Watched { store, other, .. } = watched().await;
        grow(&other, &[1]).await;
        let (bytes, written) = (json.len(), state(json));
        let cost = store.write_snapshot(&stream(), &written, None).await.expect("writes");
        assert!(cost.write_units <= most_units, "{cost} for {bytes} bytes");
        let item = get(&store, "S#").await;
        let form = (item.contains_key("st"), item.contains_key("sz"), item.get("f").cloned());
        assert_eq!(
            form,
            (!is_compressed, is_compressed, is_compressed.then(|| number("2"))),
            "{bytes} bytes"
        );
        assert_eq!(kept(&other).await, Some(written));
    }
}

/// Compressing a large state would occupy a thread of the runtime for milliseconds. Here, the only thread for blocking
/// work is busy, so the request waits for it.
#[test]
fn of_a_large_state_is_compressed_on_a_thread_for_blocking_work() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().expect("starts");
    runtime.block_on(async {
        for (bytes, is_large) in [(50_000, false), (80_000, true)] {
            let Watched { store, other, wire, .. } = watched().await;
            grow(&other, &[1]).await;
            let (stream, written) = (stream(), state(order(bytes)));
            let (free, busy) = std::sync::mpsc::channel::<()>();
            let blocked = tokio::task::spawn_blocking(move || busy.recv());
            let mut write = store.write_snapshot(&stream, &written, None);
            for _ in 0..100 {
                let once = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx)));
                assert!(once.await.is_pending());
                tokio::task::yield_now().await;
            }
            assert_eq!(wire.seen().is_empty(), is_large, "{bytes} bytes");
            drop(free);
            blocked.await.expect("does not panic").expect_err("is free");
            write.await.expect("writes");
            assert_eq!(kept(&other).await.as_ref(), Some(&written));
        }
    });
}

/// A load ignores them, and does not allocate the memory that they declare.
#[tokio::test]
async fn that_cannot_be_decompressed_is_not_used() {
    let Watched { store, other, .. } = watched().await;
    grow(&other, &[1]).await;
    let written = state(order(20_000));
    store.write_snapshot(&stream(), &written, None).await.expect("writes");
    let (sound, bytes) = (get(&store, "S#").await, written.state().len());
    let binary = |bytes: &[u8]| AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(bytes));
    let data = sound["sz"].as_b().expect("binary").as_ref();
    let bomb = miniz_oxide::deflate::compress_to_vec(&vec![b' '; 50_000_000], 1);
    let damages = [
        ("sl", number(&(bytes + 1).to_string())),
        ("sl", number(&(bytes - 1).to_string())),
        ("sl", number("0")),
        ("sl", number("18446744073709551615")),
        ("sz", binary(&data[..data.len() / 2])),
        ("sz", binary(&[])),
        ("sz", binary(&bomb)),
        ("sz", text("secret")),
        ("f", number("1")),
        ("f", number("3")),
        ("f", text("2")),
    ];
    for (name, value) in damages {
        let mut item = sound.clone();
        let shown = format!("{name}: {:.40}", format!("{value:?}"));
        item.insert(name.to_owned(), value);
        put(&other, item).await;
        let read = Read::all(stream()).from_snapshot(SHAPE, 10);
        let page = pages(&store, read).await.expect("reads").remove(0);
        assert_eq!((page.snapshot, page.unusable_snapshot), (None, Some(Version::new(1))), "{shown}");
        assert_eq!(page.commits.len(), 1, "{shown}");
    }
    put(&other, sound).await;
    assert_eq!(kept(&store).await, Some(written));
}
