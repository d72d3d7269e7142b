//! Damage to items: missing and repeated items, values of other types and sizes, and wrong content.

use arbitrary::{Result, Unstructured};
use es_core::Version;
use serde_json::{Value, json};

use super::STREAM;
use super::items::{SECRET, snapshot, snapshot_item};
use super::table::Stored;

const ATTRIBUTES: &[&str] = &[
    "lv", "id", "at", "md", "ev", "gc", "cf", "cl", "v", "fp", "ck", "st", "sz", "sl", "f", "ttl", "another",
];

const NUMBERS: &[&str] = &[
    "-1",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "1.5",
    "1E5",
    "+7",
    "500000",
    "600000",
    "4294967296",
    "999999999998",
    "999999999999",
    "1000000000000",
    "8640000000000000",
    "-9223372036854775808",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    "-99999999999999999999999999999999999999e99",
    SECRET,
    "",
];

const KEYS: &[&str] = &[
    "E#",
    "E#000000000000",
    "E#000000000001",
    "E#000000000002",
    "E#000000000003",
    "E#000000000004",
    "E#000000000007",
    "E#999999999999",
    "E#1000000000000",
    "E#00000000000x",
    "E#+00000000001",
    "E#00000000000\u{0661}",
    "E#\u{1F980}\u{1F980}\u{1F980}",
    "E",
    "F#000000000001",
    "S#",
];

const JSON: &[&str] = &[
    "",
    "{",
    "null",
    "7",
    "\"sEcReT\"",
    "[\"sEcReT\"]",
    "{\"amount\": 5}",
    "{\"amount\": \"sEcReT\"}",
    "{\"amount\": \"a, expected sEcReT\"}",
    "{\"amount\": 1e999}",
    "{\"amount\": -0.5}",
    "{\"amount\": 1, \"amount\": 2}",
    "{\"amount\": 5, \"detail\": \"\\ud800 sEcReT\"}",
    "{\"sEcReT\": 5}",
    "{\"actor\": 5, \"custom\": \"sEcReT\"}",
    "{\"actor\": \"sEcReT\", \"custom\": {\"a\": 1e400}}",
    "{\"sum\": 7, \"details\": [\"sEcReT\"]}",
    "{\"sum\": \"sEcReT\", \"details\": []}",
];

/// Damages one part.
pub(crate) fn damage(bytes: &mut Unstructured<'_>, items: &mut Vec<Stored>) -> Result<()> {
    if bytes.ratio(1, 6)? {
        return lie(bytes, items);
    }
    if items.is_empty() {
        let key = (*bytes.choose(KEYS)?).to_owned();
        items.push((key.clone(), json!({ "pk": { "S": STREAM }, "sk": { "S": key } })));
    }
    let at = bytes.choose_index(items.len())?;
    match bytes.int_in_range(0..=8)? {
        0 => drop(items.remove(at)),
        1 => move_item(bytes, &mut items[at])?,
        2 => {
            let mut copy = items[at].clone();
            move_item(bytes, &mut copy)?;
            items.push(copy);
        }
        3 => shift(bytes, &mut items[at].1)?,
        4 => {
            if let Some(Value::Array(events)) = items[at].1.pointer_mut("/ev/L") {
                damage_events(bytes, events)?;
            }
        }
        5 => {
            if let Some(Value::Array(members)) = items[at].1.pointer_mut("/gc/L") {
                damage_members(bytes, members)?;
            }
        }
        6 => items[at].1["id"] = json!({ "S": "00000000-0000-4000-8000-00000000ffff" }),
        7 => {
            let text = bytes.choose(&["id", "md", "fp", "st"])?;
            items[at].1[*text] = json!({ "S": json_text(bytes)? });
        }
        _ => {
            let attribute = *bytes.choose(ATTRIBUTES)?;
            let item = items[at].1.as_object_mut().expect("an object");
            match bytes.arbitrary()? {
                true => drop(item.remove(attribute)),
                false => drop(item.insert(attribute.to_owned(), value(bytes, 30)?)),
            }
        }
    }
    Ok(())
}

/// Changes the key, in DynamoDB also the key attribute.
fn move_item(bytes: &mut Unstructured<'_>, (key, item): &mut Stored) -> Result<()> {
    *key = (*bytes.choose(KEYS)?).to_owned();
    item["sk"] = json!({ "S": key });
    Ok(())
}

/// Generates a version that is slightly or far off.
fn shift(bytes: &mut Unstructured<'_>, item: &mut Value) -> Result<()> {
    let attribute = *bytes.choose(&["lv", "cf", "cl", "v"])?;
    let old = item[attribute]["N"].as_str().and_then(|number| number.parse::<i64>().ok()).unwrap_or(1);
    let number = match bytes.arbitrary()? {
        true => old.saturating_add(bytes.int_in_range(-3..=3)?).to_string(),
        false => (*bytes.choose(NUMBERS)?).to_owned(),
    };
    item[attribute] = json!({ "N": number });
    Ok(())
}

fn damage_members(bytes: &mut Unstructured<'_>, members: &mut Vec<Value>) -> Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    let at = bytes.choose_index(members.len())?;
    let (attribute, damaged) = match bytes.int_in_range(0..=6)? {
        0 => {
            members.remove(at);
            return Ok(());
        }
        1 => {
            members.push(members[at].clone());
            return Ok(());
        }
        2 => {
            members[at] = value(bytes, 30)?;
            return Ok(());
        }
        3 => ("n", json!({ "N": *bytes.choose(NUMBERS)? })),
        4 => ("a", json!({ "N": *bytes.choose(NUMBERS)? })),
        5 => ("m", json!({ "S": json_text(bytes)? })),
        _ => ("i", json!({ "S": *bytes.choose(&["", SECRET, "00000000-0000-4000-8000-000000000000"])? })),
    };
    if let Some(Value::Object(member)) = members[at].pointer_mut("/M") {
        member.insert(attribute.to_owned(), damaged);
    }
    Ok(())
}

fn damage_events(bytes: &mut Unstructured<'_>, events: &mut Vec<Value>) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let at = bytes.choose_index(events.len())?;
    let (attribute, damaged) = match bytes.int_in_range(0..=5)? {
        0 => {
            events.remove(at);
            return Ok(());
        }
        1 => {
            events.push(events[at].clone());
            return Ok(());
        }
        2 => {
            events[at] = value(bytes, 30)?;
            return Ok(());
        }
        3 => ("p", json!({ "S": json_text(bytes)? })),
        4 => ("v", json!({ "N": *bytes.choose(NUMBERS)? })),
        _ => {
            let name = bytes.choose(&["Booked", "Unheard", "", "\n", "x\u{202e}"])?;
            ("t", json!({ "S": name.repeat(bytes.int_in_range(1..=500)?) }))
        }
    };
    if let Some(Value::Object(event)) = events[at].pointer_mut("/M") {
        event.insert(attribute.to_owned(), damaged);
    }
    Ok(())
}

/// A snapshot with a correct checksum, of a state that never existed.
fn lie(bytes: &mut Unstructured<'_>, items: &mut Vec<Stored>) -> Result<()> {
    let version = match bytes.arbitrary()? {
        true => bytes.int_in_range(0..=30)?,
        false => bytes.choose(NUMBERS)?.parse().unwrap_or(u64::MAX),
    };
    let time = chrono::DateTime::from_timestamp_millis(bytes.int_in_range(0..=8_000_000_000_000_000)?);
    let snapshot = snapshot(Version::new(version), time.unwrap_or_default(), json_text(bytes)?);
    items.retain(|(key, _)| key != "S#");
    items.push(snapshot_item(&snapshot));
    Ok(())
}

/// Generates a text that may be JSON, but of another shape.
fn json_text(bytes: &mut Unstructured<'_>) -> Result<String> {
    Ok(match bytes.int_in_range(0..=3)? {
        0 => "[".repeat(bytes.int_in_range(1..=2_000)?),
        1 => "{\"detail\":".repeat(bytes.int_in_range(1..=500)?),
        2 => bytes.arbitrary::<&str>()?.to_owned(),
        _ => (*bytes.choose(JSON)?).to_owned(),
    })
}

/// Generates an attribute value of any type. DynamoDB allows 32 levels of nesting.
fn value(bytes: &mut Unstructured<'_>, depth: u32) -> Result<Value> {
    Ok(match bytes.int_in_range(0..=if depth == 0 { 6 } else { 9 })? {
        0 => json!({ "S": SECRET }),
        1 => json!({ "S": json_text(bytes)? }),
        2 => json!({ "N": *bytes.choose(NUMBERS)? }),
        3 => json!({ "BOOL": bytes.arbitrary::<bool>()? }),
        4 => json!({ "NULL": true }),
        5 => json!({ "B": "c0VjUmVU" }),
        6 => json!({ "SS": [SECRET], }),
        7 => json!({ "L": [value(bytes, depth - 1)?] }),
        8 => json!({ "M": { *bytes.choose(&["t", "p", "v", "x"])?: value(bytes, depth - 1)? } }),
        _ => (0..depth).fold(json!({ "S": SECRET }), |inner, _| json!({ "L": [inner] })),
    })
}
