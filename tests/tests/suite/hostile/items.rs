//! Generated items: valid ones, and damaged ones that no store would write.

use arbitrary::{Result, Unstructured};
use es_core::event::EventData;
use es_core::snapshot::Snapshot;
use es_core::store::Commit;
use es_core::{Aggregate, Metadata, Version};
use serde_json::{Value, json};

use super::damage::damage;
use super::domain::Ledger;
use super::table::Stored;
use super::{STREAM, fold};
use crate::commit_key;

/// Occurs in every payload, in metadata, and in states, and must not occur in errors.
pub(crate) const SECRET: &str = "sEcReT";

/// The content of one table.
pub(crate) struct Case {
    pub(crate) items: Vec<Stored>,
    /// The maximum number of items in a response.
    pub(crate) page: usize,
    /// The items before the damage.
    pub(crate) commits: Vec<Commit>,
    /// Whether the items are undamaged.
    pub(crate) is_sound: bool,
}

/// Generates a case from the given bytes.
pub(crate) fn case(bytes: &mut Unstructured<'_>) -> Result<Case> {
    let page = bytes.int_in_range(1..=8)?;
    let (mut commits, mut items) = (Vec::new(), Vec::new());
    let mut first = Version::FIRST;
    for _ in 0..bytes.int_in_range(0..=6)? {
        let stored = commits.len();
        for _ in 0..if bytes.ratio(1, 3)? { bytes.int_in_range(2..=4)? } else { 1 } {
            let commit = commit(bytes, commits.len() as i64, first)?;
            first = commit.last().next();
            commits.push(commit);
        }
        match &commits[stored..] {
            [commit] => items.extend(commit_items(bytes, commit)?),
            group => items.push(group_item(group)),
        }
    }
    if bytes.ratio(2, 3)? && !commits.is_empty() {
        let covered = bytes.int_in_range(1..=commits.len())?;
        let last = &commits[covered - 1];
        let state = serde_json::to_string(&fold(&commits[..covered])).expect("has a JSON form");
        items.push(snapshot_item(&snapshot(last.last(), last.time, state)));
    }
    let sound = items.clone();
    for _ in 0..bytes.int_in_range(0..=3)? {
        damage(bytes, &mut items)?;
    }
    let is_sound = items == sound;
    Ok(Case { items, page, commits, is_sound })
}

fn commit(bytes: &mut Unstructured<'_>, number: i64, first: Version) -> Result<Commit> {
    let events = (0..bytes.int_in_range(1..=4)?).map(|_| event(bytes)).collect::<Result<_>>()?;
    let metadata = match bytes.arbitrary()? {
        true => Metadata::new().with_actor(SECRET).with_entry("depth", nested(bytes.int_in_range(0..=20)?)),
        false => Metadata::new(),
    };
    let id = format!("00000000-0000-4000-8000-{number:012}").parse().expect("a UUID");
    let time = chrono::DateTime::from_timestamp_millis(1_700_000_000_000 + number).expect("in range");
    Ok(Commit::new(id, first, time, events).with_metadata(metadata))
}

fn event(bytes: &mut Unstructured<'_>) -> Result<EventData> {
    let mut payload = json!({ "amount": bytes.arbitrary::<i64>()? });
    match bytes.int_in_range(0..=3)? {
        0 => {}
        1 => payload["detail"] = nested(bytes.int_in_range(0..=60)?),
        _ => payload["detail"] = json!({ "text": SECRET }),
    }
    Ok(EventData::new("Booked", 1, payload.to_string()))
}

/// Nested lists with the secret inside.
fn nested(depth: u32) -> Value {
    (0..depth).fold(json!(SECRET), |inner, _| json!([inner]))
}

/// Returns the items of a commit: one, or several as for a large commit.
fn commit_items(bytes: &mut Unstructured<'_>, commit: &Commit) -> Result<Vec<Stored>> {
    let longest = if bytes.ratio(1, 3)? { bytes.int_in_range(1..=2)? } else { commit.events.len() };
    let mut items = Vec::new();
    let mut first = commit.first;
    for events in commit.events.chunks(longest) {
        let last = first.plus(events.len() as u64).previous();
        let mut item = json!({
            "lv": { "N": last.to_string() },
            "id": { "S": commit.id.to_string() },
            "at": { "N": commit.time.timestamp_millis().to_string() },
            "ev": { "L": events.iter().map(event_value).collect::<Vec<_>>() },
        });
        if events.len() < commit.events.len() {
            item["cf"] = json!({ "N": commit.first.to_string() });
            item["cl"] = json!({ "N": commit.last().to_string() });
        }
        if first == commit.first && !commit.metadata.is_empty() {
            let metadata = serde_json::to_string(&*commit.metadata).expect("has a JSON form");
            item["md"] = json!({ "S": metadata });
        }
        items.push(stored(commit_key(first.get()), item));
        first = last.next();
    }
    Ok(items)
}

/// The item of several commits.
fn group_item(commits: &[Commit]) -> Stored {
    let (first, last) = (&commits[0], &commits[commits.len() - 1]);
    let member = |(index, commit): (usize, &Commit)| {
        let mut member = json!({
            "n": { "N": commit.events.len().to_string() },
            "a": { "N": commit.time.timestamp_millis().to_string() },
        });
        if index > 0 {
            member["i"] = json!({ "S": commit.id.to_string() });
        }
        if !commit.metadata.is_empty() {
            member["m"] = json!({ "S": serde_json::to_string(&*commit.metadata).expect("has a JSON form") });
        }
        json!({ "M": member })
    };
    let events = commits.iter().flat_map(|commit| &commit.events);
    let item = json!({
        "f": { "N": "2" },
        "lv": { "N": last.last().to_string() },
        "id": { "S": first.id.to_string() },
        "at": { "N": last.time.timestamp_millis().to_string() },
        "ev": { "L": events.map(event_value).collect::<Vec<_>>() },
        "gc": { "L": commits.iter().enumerate().map(member).collect::<Vec<_>>() },
    });
    stored(commit_key(first.first.get()), item)
}

fn event_value(event: &EventData) -> Value {
    json!({ "M": { "t": { "S": event.name() }, "p": { "S": event.payload() } } })
}

/// A snapshot of a ledger with a correct checksum and arbitrary content.
pub(crate) fn snapshot(version: Version, time: chrono::DateTime<chrono::Utc>, state: String) -> Snapshot {
    let shape = Ledger::snapshots().expect("has snapshots").fingerprint();
    Snapshot::new(version, time, shape, state)
}

pub(crate) fn snapshot_item(snapshot: &Snapshot) -> Stored {
    let item = json!({
        "v": { "N": snapshot.version().to_string() },
        "at": { "N": snapshot.time().timestamp_millis().to_string() },
        "fp": { "S": format!("{:016x}", snapshot.fingerprint().get()) },
        "ck": { "N": snapshot.checksum().to_string() },
        "st": { "S": snapshot.state() },
    });
    stored("S#".to_owned(), item)
}

fn stored(key: String, mut item: Value) -> Stored {
    item["pk"] = json!({ "S": STREAM });
    item["sk"] = json!({ "S": key });
    (key, item)
}
