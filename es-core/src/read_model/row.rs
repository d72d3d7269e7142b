//! Rows: what a read model consists of.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ReadModelError;

/// A row of a [`ReadModel`](crate::ReadModel): derive it.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Row, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// #[row(name = "orders", key = order, index(by_customer(customer, placed)))]
/// struct OrderRow { order: String, customer: String, placed: String, total_cents: u64 }
///
/// let row = OrderRow { order: "1001".into(), customer: "ada".into(), placed: "2030-01-01".into(), total_cents: 500 };
/// assert_eq!(row.key()?, "1001");
/// # Ok::<_, es_core::ReadModelError>(())
/// ```
///
/// The key is a field; rows of the same key replace each other. An index lists rows by the value of its
/// first field, in the order of the others. These fields are texts, whole numbers, `bool`s, or what is
/// serialized as one of them: ids, dates, enums without content.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of a read model",
    label = "not a row",
    note = "write `#[derive(Clone, Row, Serialize, Deserialize)]` and `#[row(name = \"…\", key = …)]` above the definition of `{Self}`"
)]
pub trait Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The name of the read model. Rows are stored under it.
    const NAME: &'static str;
    /// The names of its indexes.
    const INDEXES: &'static [&'static str];

    /// The row's key.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::Key`] when a field cannot be a key.
    fn key(&self) -> Result<String, ReadModelError>;

    /// The row's place in each index, in the order of [`INDEXES`](Self::INDEXES).
    ///
    /// # Errors
    ///
    /// As [`key`](Self::key).
    fn places(&self) -> Result<Vec<IndexPlace>, ReadModelError>;
}

/// The place of a row in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexPlace {
    /// What the row is listed under.
    pub group: String,
    /// What the rows of the group are ordered by.
    pub order: String,
}

impl IndexPlace {
    /// The place under `group`, ordered by `order`.
    #[must_use]
    pub fn new(group: String, order: String) -> Self {
        Self { group, order }
    }
}

/// What separates the parts of a key; it sorts before all that is printed.
pub(super) const SEPARATOR: char = '\u{1}';

/// The text of a value in a key. The texts of numbers sort as the numbers do.
///
/// # Errors
///
/// [`ReadModelError::Key`] when the value is not a text, a whole number or a `bool`.
pub fn key_text<K: Serialize>(model: &'static str, value: &K) -> Result<String, ReadModelError> {
    let refuse = |reason: String| ReadModelError::Key { model, reason };
    match serde_json::to_value(value) {
        Ok(Value::String(text)) if text.contains(SEPARATOR) => Err(refuse("a text with U+0001".to_owned())),
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Bool(flag)) => Ok(u8::from(flag).to_string()),
        Ok(Value::Null) => Ok(String::new()),
        Ok(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Ok(format!("{number:020}")),
            // Negative numbers sort before the others, and among them the largest last.
            (None, Some(number)) => Ok(format!("-{:020}", u64::MAX - number.unsigned_abs())),
            (None, None) => Err(refuse("a number that is not whole".to_owned())),
        },
        Ok(Value::Array(_)) => Err(refuse("a list".to_owned())),
        Ok(Value::Object(_)) => Err(refuse("a value with fields".to_owned())),
        Err(_) => Err(refuse("a value without a JSON form".to_owned())),
    }
}

/// The text of a value that others are ordered by. The texts of points in time sort as these do, with and without
/// fractions of a second, and in whatever time zone.
pub(super) fn order_text(model: &'static str, value: &impl Serialize) -> Result<String, ReadModelError> {
    let text = key_text(model, value)?;
    if text.as_bytes().get(10).is_none_or(|byte| *byte != b'T') {
        return Ok(text);
    }
    match DateTime::parse_from_rfc3339(&text) {
        Ok(time) => Ok(time.to_utc().to_rfc3339_opts(SecondsFormat::Nanos, true)),
        Err(_) => Ok(text),
    }
}

/// The texts of several values that others are ordered by, one after the other.
///
/// # Errors
///
/// As [`key_text`].
pub fn key_texts(model: &'static str, values: &[&dyn ErasedKey]) -> Result<String, ReadModelError> {
    let texts: Result<Vec<_>, _> = values.iter().map(|value| value.text(model)).collect();
    Ok(texts?.join(&SEPARATOR.to_string()))
}

/// A value in a key, of whatever type.
pub trait ErasedKey {
    /// As [`key_text`]; the texts of points in time sort as these do.
    ///
    /// # Errors
    ///
    /// As there.
    fn text(&self, model: &'static str) -> Result<String, ReadModelError>;
}

impl<T: Serialize> ErasedKey for T {
    fn text(&self, model: &'static str) -> Result<String, ReadModelError> {
        order_text(model, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_numbers_sort_as_the_numbers() {
        let numbers = [i64::MIN, -100, -10, -9, -1, 0, 1, 9, 10, i64::MAX];
        let texts = numbers.map(|number| key_text("rows", &number).expect("a key"));
        assert!(texts.is_sorted(), "{texts:?}");
        assert!(texts[9] < key_text("rows", &u64::MAX).expect("a key"));
    }

    #[test]
    fn texts_of_times_sort_as_the_times() {
        let times = ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00.5Z", "2030-01-01T02:00:01+02:00"];
        let texts = times.map(|time| order_text("rows", &time).expect("a key"));
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(order_text("rows", &"2030-01-01The").expect("a key"), "2030-01-01The");
    }

    #[test]
    fn what_has_no_order_is_refused() {
        for value in [serde_json::json!(1.5), serde_json::json!([1]), serde_json::json!({ "a": 1 })] {
            assert!(matches!(key_text("rows", &value), Err(ReadModelError::Key { .. })), "{value}");
        }
        assert!(key_text("rows", &"a\u{1}b").is_err());
    }
}
