//! Encoding of row keys and index places as strings.
//!
//! | value | encoding |
//! |---|---|
//! | string | unchanged, with U+0000 to U+0002 escaped; [shortened](shorten) if it is too long |
//! | integer | 20 digits; for a negative one, `-` and the distance from the minimum |
//! | a `bool` | `0` or `1` |
//! | time | in UTC, with nanoseconds |
//! | date | unchanged; years before 0 and after 9999 are encoded so that they sort correctly |
//! | null | an escape that sorts after the empty string |
//!
//! The strings sort in the order of the values.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, SecondsFormat};
use serde::Serialize;
use serde_json::{Number, Value};

use super::kind::KeyKind;
use super::{IndexPlace, ReadModelError};
use crate::documents::DocumentKey;
use crate::keys::shorten;

/// The maximum length of a row's key, and of the value that an index groups by, in bytes.
const KEY_BYTES: usize = 512;

/// The maximum length of the first order field, and of all other order fields together, in bytes. The name of a
/// document in an index consists of both and the key.
const ORDER_BYTES: usize = 240;

const _: () = assert!(2 * ORDER_BYTES + 2 + KEY_BYTES <= DocumentKey::MAX_NAME_BYTES);

/// The room that is left for each order field after the current one, in bytes: a digest and a separator.
const RESERVED_BYTES: usize = 40;

// `#[derive(Row)]` accepts indexes with a group and at most this many order fields.
const _: () = assert!((MAX_ORDER_FIELDS - 1) * RESERVED_BYTES <= ORDER_BYTES);

/// The maximum number of order fields of an index.
const MAX_ORDER_FIELDS: usize = 7;

/// Separates the parts of a key. Sorts before everything in an escaped string.
pub(super) const SEPARATOR: char = '\u{1}';

/// Begins an escape sequence. The next character determines its meaning.
const ESCAPE: char = '\u{2}';

/// A null value.
const NULL: &str = "\u{2}\u{2}";

/// Precedes the digest of a shortened string. Sorts after escaped characters and before all others.
const SHORTENED: &str = "\u{2}\u{6}";

/// Returns the encoding of a value in a key.
///
/// # Errors
///
/// [`ReadModelError::Key`] if the value is not a string, an integer, or a `bool`. [`ReadModelError::Mismatch`] if
/// it is not of the kind `kind`.
pub fn key_text<K: Serialize + ?Sized>(
    model: &'static str,
    kind: KeyKind,
    value: &K,
) -> Result<String, ReadModelError> {
    text(model, kind, value).map(|text| shorten(text, KEY_BYTES, SHORTENED))
}

/// Returns the place of a row with these values in an index. The first value is the group.
///
/// # Errors
///
/// As for [`key_text`].
pub fn index_place(
    model: &'static str,
    kinds: &[KeyKind],
    values: &[&dyn ErasedKey],
) -> Result<IndexPlace, ReadModelError> {
    let mut texts = kinds.iter().zip(values).map(|(kind, value)| value.text(model, *kind));
    let group = texts.next().transpose()?.unwrap_or_default();
    let mut order = OrderText::of_index(kinds);
    for text in texts {
        order.push(text?);
    }
    Ok(IndexPlace::new(shorten(group, KEY_BYTES, SHORTENED), order.text))
}

/// The encoded order fields of a row, or the first few of them, separated by [`SEPARATOR`].
#[derive(Clone, Debug)]
pub(super) struct OrderText {
    text: String,
    /// The number of fields in the text.
    fields: usize,
    /// The number of order fields of the index.
    all_fields: usize,
    /// The bytes that are left for all fields but the first.
    left: usize,
}

impl OrderText {
    /// Creates the empty text of an index whose group and order fields have these kinds.
    pub(super) fn of_index(kinds: &[KeyKind]) -> Self {
        let all_fields = kinds.len().saturating_sub(1);
        Self { text: String::new(), fields: 0, all_fields, left: ORDER_BYTES }
    }

    /// Returns the number of fields in the text.
    pub(super) fn fields(&self) -> usize {
        self.fields
    }

    /// Appends a field. The kept length depends only on the fields before it, so rows with equal fields have texts with
    /// equal prefixes.
    fn push(&mut self, field: String) {
        if self.fields == 0 {
            self.text = shorten(field, ORDER_BYTES, SHORTENED);
        } else {
            let later = self.all_fields.saturating_sub(self.fields + 1);
            let field = shorten(field, self.left - later * RESERVED_BYTES - 1, SHORTENED);
            self.left -= field.len() + 1;
            self.text.push(SEPARATOR);
            self.text.push_str(&field);
        }
        self.fields += 1;
    }

    /// Appends the encoding of `value`.
    pub(super) fn push_value(
        &mut self,
        model: &'static str,
        kind: KeyKind,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), ReadModelError> {
        self.push(text(model, kind, value)?);
        Ok(())
    }

    /// Returns the first and the last possible name of a row with these order fields. No row has the last one.
    pub(super) fn bounds(&self) -> (String, String) {
        let after = char::from(SEPARATOR as u8 + 1);
        (self.text.clone(), format!("{}{after}", self.text))
    }
}

/// A value in a key, with its type erased.
pub trait ErasedKey {
    /// Returns the encoding of the value without a length limit.
    ///
    /// # Errors
    ///
    /// As for [`key_text`].
    fn text(&self, model: &'static str, kind: KeyKind) -> Result<String, ReadModelError>;
}

impl<T: Serialize> ErasedKey for T {
    fn text(&self, model: &'static str, kind: KeyKind) -> Result<String, ReadModelError> {
        text(model, kind, self)
    }
}

fn text(
    model: &'static str,
    kind: KeyKind,
    value: &(impl Serialize + ?Sized),
) -> Result<String, ReadModelError> {
    let refuse = |reason: &str| ReadModelError::Key { model, reason: reason.to_owned() };
    let value = serde_json::to_value(value).map_err(|_| refuse("a value that JSON cannot express"))?;
    let found = match &value {
        Value::Null => return Ok(NULL.to_owned()),
        Value::String(_) => KeyKind::Text,
        Value::Number(_) => KeyKind::Number,
        Value::Bool(_) => KeyKind::Bool,
        Value::Array(_) => return Err(refuse("a list")),
        Value::Object(_) => return Err(refuse("a struct or map")),
    };
    let text = match (kind, value) {
        (KeyKind::Text | KeyKind::Any, Value::String(text)) => Some(escape(&text)),
        (KeyKind::Time, Value::String(text)) => time_text(&text),
        (KeyKind::Date, Value::String(text)) => date_text(&text),
        (KeyKind::Number | KeyKind::Any, Value::Number(number)) => {
            Some(number_text(&number).ok_or_else(|| refuse("a number that is not an integer"))?)
        }
        (KeyKind::Bool | KeyKind::Any, Value::Bool(flag)) => Some(u8::from(flag).to_string()),
        _ => None,
    };
    text.ok_or(ReadModelError::Mismatch { model, expected: kind.name(), found: found.name() })
}

/// Returns `text` with the separator and escape characters escaped, in the same sort order.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{0}'..='\u{2}' => escaped.extend([ESCAPE, char::from(character as u8 + 3)]),
            other => escaped.push(other),
        }
    }
    escaped
}

fn number_text(number: &Number) -> Option<String> {
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => Some(format!("{number:020}")),
        // Negative numbers sort before all others, and by their distance from the minimum.
        (None, Some(number)) => Some(format!("-{:020}", u64::MAX - number.unsigned_abs())),
        (None, None) => None,
    }
}

/// Returns an encoding that depends only on the instant, not on the time zone.
fn time_text(text: &str) -> Option<String> {
    let time = text.parse::<DateTime<FixedOffset>>().ok()?;
    Some(year_text(&time.to_utc().to_rfc3339_opts(SecondsFormat::Nanos, true)))
}

fn date_text(text: &str) -> Option<String> {
    let is_date = text.parse::<NaiveDate>().is_ok() || text.parse::<NaiveDateTime>().is_ok();
    is_date.then(|| year_text(text))
}

/// Encodes signed years so that those before 0 sort first and those after 9999 sort last.
fn year_text(text: &str) -> String {
    const YEARS: i64 = 1_000_000;
    let (sign, rest) = text.split_at(text.len().min(1));
    let year = |rest: &str| -> Option<(i64, String)> {
        let (year, rest) = rest.split_once('-')?;
        Some((year.parse().ok()?, rest.to_owned()))
    };
    match (sign, year(rest)) {
        ("-", Some((year, rest))) => format!("-{:06}-{rest}", YEARS - year),
        ("+", Some((year, rest))) => format!(":{year:06}-{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::*;

    fn key(kind: KeyKind, value: impl Serialize) -> String {
        key_text("rows", kind, &value).expect("a key")
    }

    #[test]
    fn texts_of_numbers_sort_as_the_numbers() {
        let numbers = [i64::MIN, -100, -10, -9, -1, 0, 1, 9, 10, i64::MAX];
        let texts = numbers.map(|number| key(KeyKind::Number, number));
        assert!(texts.is_sorted(), "{texts:?}");
        assert!(texts[9] < key(KeyKind::Any, u64::MAX));
    }

    #[test]
    fn texts_of_times_sort_as_the_times() {
        let times = [
            "-0100-01-01T00:00:00Z",
            "-0044-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2030-01-01T00:00:00Z",
            "2030-01-01T00:00:00.5Z",
            "2030-01-01T02:00:01+02:00",
            "9999-12-31T23:59:59Z",
            "+10000-01-01T00:00:00Z",
        ];
        let mut texts: Vec<_> = times.iter().map(|time| key(KeyKind::Time, time)).collect();
        texts.push(key(KeyKind::Time, DateTime::<Utc>::MAX_UTC));
        texts.insert(0, key(KeyKind::Time, DateTime::<Utc>::MIN_UTC));
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(
            key(KeyKind::Time, "2030-01-01T00:00:00Z"),
            key(KeyKind::Time, "2030-01-01T02:00:00+02:00")
        );
        // Strings are not treated as times, even if they look like times.
        assert_eq!(key(KeyKind::Text, "2030-01-01T02:00:00+02:00"), "2030-01-01T02:00:00+02:00");

        let dates = [NaiveDate::MIN, NaiveDate::default(), NaiveDate::MAX];
        let mut texts: Vec<_> = dates.iter().map(|date| key(KeyKind::Date, date)).collect();
        texts.insert(1, key(KeyKind::Date, "-0044-03-15"));
        assert!(texts.is_sorted(), "{texts:?}");
        let times = [NaiveDateTime::MIN, NaiveDateTime::default(), NaiveDateTime::MAX];
        assert!(times.map(|time| key(KeyKind::Date, time)).is_sorted());
    }

    #[test]
    fn texts_of_any_characters_stay_apart_and_in_order() {
        let texts = [
            "",
            "\u{0}",
            "\u{0}\u{0}",
            "\u{1}",
            "\u{2}",
            "\u{2}\u{2}",
            "\u{2}\u{6}",
            "\u{3}",
            "a",
            "a\u{1}b",
            "ab",
        ];
        let keys: Vec<_> = texts.iter().map(|text| key(KeyKind::Text, text)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert!(keys.iter().all(|key| !key.contains(SEPARATOR)), "{keys:?}");
        assert!(!keys.contains(&key(KeyKind::Text, None::<String>)));
    }

    #[test]
    fn long_texts_are_shortened_and_stay_apart() {
        let long = |end: &str| format!("{}{end}", "ü".repeat(600));
        let keys = [long("a"), long("b")].map(|text| key(KeyKind::Text, text));
        assert!(keys[0] != keys[1] && keys.iter().all(|key| key.len() <= KEY_BYTES), "{keys:?}");

        let kinds = [KeyKind::Text; 4];
        let values = ["group".to_owned(), long("a"), long("b"), long("c")];
        let values: Vec<&dyn ErasedKey> = values.iter().map(|value| value as _).collect();
        let place = index_place("rows", &kinds, &values).expect("a place");
        assert!(place.order.len() <= 2 * ORDER_BYTES + 1, "{}", place.order.len());
        let beginning = |ends: &[&str]| {
            let mut order = OrderText::of_index(&kinds);
            for end in ends {
                order.push_value("rows", KeyKind::Text, &long(end)).expect("a text");
            }
            format!("{}{SEPARATOR}", order.text)
        };
        for (ends, is_of_the_row) in
            [(&["a"][..], true), (&["b"], false), (&["a", "b"], true), (&["a", "c"], false)]
        {
            assert_eq!(place.order.starts_with(&beginning(ends)), is_of_the_row, "{ends:?}");
        }
        assert_eq!(format!("{}{SEPARATOR}", place.order), beginning(&["a", "b", "c"]));
    }

    #[test]
    fn the_longest_order_fits() {
        let text = "x".repeat(1000);
        let values: Vec<&dyn ErasedKey> = vec![&text; MAX_ORDER_FIELDS + 1];
        let kinds = [KeyKind::Text; MAX_ORDER_FIELDS + 1];
        let place = index_place("rows", &kinds, &values).expect("a place");
        assert_eq!(place.order.split(SEPARATOR).count(), MAX_ORDER_FIELDS);
        assert!(place.order.len() <= 2 * ORDER_BYTES, "{}", place.order.len());
    }

    #[test]
    fn values_without_an_order_are_rejected() {
        for value in [json!(1.5), json!([1]), json!({ "a": 1 })] {
            let error = key_text("rows", KeyKind::Any, &value);
            assert!(matches!(error, Err(ReadModelError::Key { .. })), "{value}");
        }
    }

    #[test]
    fn values_of_another_kind_are_rejected() {
        let mistakes = [
            (KeyKind::Text, json!(1)),
            (KeyKind::Number, json!("1")),
            (KeyKind::Number, json!(true)),
            (KeyKind::Bool, json!(1)),
            (KeyKind::Time, json!("yesterday")),
            (KeyKind::Date, json!("2030-13-01")),
        ];
        for (kind, value) in mistakes {
            let error = key_text("rows", kind, &value);
            assert!(matches!(error, Err(ReadModelError::Mismatch { .. })), "{value} for {kind:?}");
        }
    }
}
