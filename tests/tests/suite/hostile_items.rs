//! Items that no store wrote: no panic, no error that quotes them, and nothing read that was not stored.
//!
//! `fuzz/` searches for more such items, with the same checks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use arbitrary::Unstructured;
use es_core::store::Read;
use es_core::{EventStore, Repository, StoreError, Version};
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use crate::hostile::items::{snapshot, snapshot_item};
use crate::hostile::{Ledger, STREAM, Table, case, check, runtime};

/// The number of tables, with about five items each.
const TABLES: u64 = 600;

/// Returns reproducible bytes, more than a case needs.
fn bytes(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(4_096).collect()
}

#[test]
fn every_rule_holds_for_thousands_of_damaged_tables() {
    let next = AtomicU64::new(0);
    let work = || {
        let (mut sound, mut damaged, mut broken) = (0, 0, Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= TABLES {
                return (sound, damaged, broken);
            }
            let case = case(&mut Unstructured::new(&bytes(seed))).expect("enough bytes");
            *(if case.is_sound { &mut sound } else { &mut damaged }) += 1;
            let outcome = catch_unwind(AssertUnwindSafe(|| runtime().block_on(check(case))));
            if outcome.is_err() {
                broken.push(seed);
            }
        }
    };
    let (mut sound, mut damaged, mut broken) = (0, 0, Vec::new());
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (more_sound, more_damaged, more_broken) = worker.join().expect("panics are caught");
            (sound, damaged) = (sound + more_sound, damaged + more_damaged);
            broken.extend(more_broken);
        }
    });
    assert!(broken.is_empty(), "the tables of the seeds {broken:?} break rules, see above");
    assert_eq!(sound + damaged, TABLES);
    assert!(sound > TABLES / 10 && damaged > TABLES / 2, "{sound} sound tables, {damaged} damaged ones");
}

/// Nested more deeply than any stack allows.
const DEEP: usize = 100_000;

/// Returns a valid commit of one event, at `version`.
fn item(version: u64) -> Value {
    json!({
        "pk": { "S": STREAM },
        "sk": { "S": format!("E#{version:012}") },
        "lv": { "N": version.to_string() },
        "id": { "S": "00000000-0000-4000-8000-000000000000" },
        "at": { "N": "0" },
        "ev": { "L": [{ "M": { "t": { "S": "Booked" }, "p": { "S": "{\"amount\":1}" } } }] },
    })
}

fn table(items: Vec<Value>) -> Table {
    let key = |item: &Value| item["sk"]["S"].as_str().expect("a sort key").to_owned();
    Table::new(items.into_iter().map(|item| (key(&item), item)).collect(), 1_000)
}

/// Returns the error text of a load of the items.
fn load(items: Vec<Value>) -> Result<es_core::repository::Loaded<Ledger>, StoreError> {
    let ledgers: Repository<Ledger> = Repository::new(table(items).store());
    runtime().block_on(ledgers.load(&"ann".to_owned()))
}

#[test]
fn depth_is_an_error_and_no_overflow() {
    let deep = "[".repeat(DEEP);
    let mut payload = item(1);
    payload["ev"]["L"][0]["M"]["p"]["S"] = json!(format!("{{\"amount\":1,\"detail\":{deep}"));
    let error = load(vec![payload]).expect_err("too deep").to_string();
    assert!(error.contains("recursion limit exceeded") && error.len() < 300, "{error}");

    let mut metadata = item(1);
    metadata["md"] = json!({ "S": format!("{{\"custom\":{{\"a\":{deep}") });
    let error = load(vec![metadata]).expect_err("too deep").to_string();
    assert!(error.ends_with("its metadata is damaged"), "{error}");
}

#[test]
fn a_snapshot_of_a_deep_state_is_left_aside() {
    let state = format!("{{\"sum\":7,\"details\":{}", "[".repeat(DEEP));
    let (_, item_of_snapshot) = snapshot_item(&snapshot(Version::FIRST, Default::default(), state));
    let loaded = load(vec![item(1), item_of_snapshot]).expect("the events are sound");
    assert_eq!((loaded.version, loaded.state.sum), (Version::FIRST, 1));
}

#[test]
fn nested_attribute_values_are_passed_over_or_refused() {
    // DynamoDB stores up to 32 levels.
    let nested = |depth| (0..depth).fold(json!({ "NULL": true }), |inner, _| json!({ "L": [inner] }));
    let mut unknown = item(1);
    unknown["another"] = nested(32);
    assert_eq!(load(vec![unknown]).expect("is no matter").version, 1);
    for attribute in ["ev", "lv", "id"] {
        let mut damaged = item(1);
        damaged[attribute] = nested(32);
        assert!(matches!(load(vec![damaged]), Err(StoreError::Corrupt { .. })), "{attribute}");
    }
    // Another server may send more levels, which are skipped without recursion or rejected by the parser.
    let mut unknown = item(1);
    unknown["another"] = nested(200);
    assert_eq!(load(vec![unknown]).expect("is no matter").version, 1);
    let mut damaged = item(1);
    damaged["ev"] = nested(200);
    assert!(matches!(load(vec![damaged]), Err(StoreError::Unavailable(_))));
}

#[test]
fn a_commit_that_claims_to_be_endless_is_not_waited_for() {
    let claims = |last: u64| {
        let mut part = item(1);
        (part["cf"], part["cl"]) = (json!({ "N": "1" }), json!({ "N": last.to_string() }));
        part
    };
    for last in [999_999_999_999, 1_000_000, 100_000] {
        let error = load(vec![claims(last)]).expect_err("has one event only");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }
    // Endless parts, each of which continues the previous one.
    let parts = (1..=1_000).map(|version| {
        let mut part = item(version);
        (part["cf"], part["cl"]) = (json!({ "N": "1" }), json!({ "N": "5000" }));
        part
    });
    let store = table(parts.collect()).store();
    let read = Read::all(STREAM.parse().expect("a stream"));
    let error = runtime().block_on(store.read(read).try_collect::<Vec<_>>()).expect_err("too many");
    assert!(error.to_string().ends_with("the commit at version 1 has too many parts"), "{error}");
}

#[test]
fn parts_that_contradict_each_other_are_no_commit() {
    let part = |version: u64, last: u64| {
        let mut part = item(version);
        (part["cf"], part["cl"]) = (json!({ "N": "1" }), json!({ "N": last.to_string() }));
        part
    };
    assert_eq!(load(vec![part(1, 2), part(2, 2)]).expect("fits together").version, 2);
    let error = load(vec![part(1, 2), part(2, 3), part(3, 3)]).expect_err("contradicts itself");
    assert!(error.to_string().contains("is of another commit than the one before"), "{error}");
}
