//! Personal data: values that are encrypted in storage and can be forgotten, although events are never changed.
//!
//! Each value belongs to a [`Subject`], which is usually a person. It is sealed under the subject's key, which a
//! [`Keyring`] stores apart from the events. Forgetting the subject deletes the key, so that nothing that was stored
//! about the subject can be read any more: not in events, snapshots, rows, timeouts, or archives, and not in backups of
//! them.
//!
//! ```
//! use es_core::prelude::*;
//! use es_core::MemoryStore;
//! use es_core::personal::{Keyring, MemoryKeyring, Personal, SealedStore, Subject};
//!
//! #[event]
//! pub struct Registered {
//!     pub customer: String,
//!     #[personal(subject = customer)]
//!     pub name: Personal<String>,
//! }
//!
//! #[derive(Aggregate, Default)]
//! #[aggregate(name = "customer", id = String, events(Registered))]
//! pub struct Customer { name: Option<Personal<String>> }
//!
//! pub struct Register { pub customer: String, pub name: String }
//!
//! #[handlers]
//! impl Customer {
//!     #[apply]
//!     fn registered(&mut self, event: &Registered) {
//!         self.name = Some(event.name.clone());
//!     }
//!
//!     #[handle]
//!     fn register(&self, command: &Register) -> Registered {
//!         Registered { customer: command.customer.clone(), name: command.name.clone().into() }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keyring = MemoryKeyring::new();
//! let store = SealedStore::new(MemoryStore::new(), keyring.clone());
//! let customers: Repository<Customer> = Repository::new(store);
//! customers.execute("17", Register { customer: "17".into(), name: "Ann".into() }).await?;
//!
//! let name = customers.load("17").await?.state.name.expect("registered");
//! assert_eq!(name.value().map(String::as_str), Some("Ann"));
//!
//! keyring.forget(&Subject::new("17")?).await?;
//! let name = customers.load("17").await?.state.name.expect("registered");
//! assert!(name.is_forgotten());
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! Handlers see plain values. When the framework encodes a value, it becomes ciphertext under a random key of the
//! process, which no other process can read. A [`SealedStore`] converts it to ciphertext under the subject's key when
//! it writes, and back when it reads. Every other store refuses it, so a value cannot be stored without a keyring by
//! mistake. Outside of the framework, [`Personal`] cannot be serialized at all.

mod cipher;
mod forms;
mod key_cache;
mod keyring;
mod master_key;
mod store;
#[cfg(feature = "testing")]
pub(crate) mod testing;
mod wrapped;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use cipher::SubjectKey;
pub use keyring::{KeyState, Keyring, MemoryKeyring, Subject};
pub use master_key::{LocalMasterKey, MasterKey, MasterKeys, corrupt_key};
pub use store::SealedStore;
pub use wrapped::{KeyRecord, KeyTable, WrappedKey, WrappedKeyring};

use crate::event::EncodeError;
use crate::read_model::ReadModelError;
use crate::schema::{Schema, Types};
use forms::{Found, Replacement, RewriteError, SEALED, Sealed, TRANSIT, Transit, rewrite};

/// The maximum age of a key that a [`Keyring`] may return without reading it again, and of a cached state with personal
/// data: one minute. A value may be read for this long after its subject was forgotten elsewhere.
pub const MAX_KEY_AGE: Duration = Duration::from_secs(60);

/// The reason of a failed serialization outside of the framework.
const OUTSIDE: &str =
    "personal data can only be serialized by the framework: serialize `value()` where it may be shown";
/// The reason of a failed serialization of a value without a subject.
const NO_SUBJECT: &str = "a personal value has no subject: create it with `Personal::of(subject, value)`, or copy it from an \
                          event";
/// The reason of a failed deserialization without a keyring.
const STILL_SEALED: &str = "its personal data is sealed: read it through a `SealedStore` with the keyring";
/// The reason of a failed deserialization of another form.
const NOT_PERSONAL: &str =
    "expected personal data: events that contain the value in plain text need another version";
/// The reason of a failed deserialization of a value.
const OTHER_TYPE: &str = "the personal value does not match its type";

/// The reasons that errors of serialization contain. None of them contains a value.
pub(crate) const REASONS: [&str; 5] = [OUTSIDE, NO_SUBJECT, STILL_SEALED, NOT_PERSONAL, OTHER_TYPE];

/// Personal data of a subject: a value, or nothing after the subject was forgotten.
///
/// In events, timeouts, and rows, `#[personal(subject = field)]` names the field with the id of the subject. The field
/// may also be an `Option` or a `Vec` of personal values. For a type with several personal fields, use one `Personal`
/// for the whole: `Personal<Address>`. States, stored rejections, and types inside rows may contain copies of values
/// from events without the attribute, because a value that was read knows its subject.
///
/// Comparisons ignore the subject. `Debug` does not show the value. There is no `Display`, and serialization fails
/// outside of the framework, so that the value is not shown by mistake.
///
/// ```
/// use es_core::personal::Personal;
///
/// let name = Personal::new("Ann".to_owned());
/// assert_eq!(name.value().map(String::as_str), Some("Ann"));
/// assert_eq!(format!("{name:?}"), "Personal(hidden)");
/// ```
#[derive(Clone)]
pub struct Personal<T> {
    /// Known once the value is in an event, or was read.
    subject: OnceLock<Subject>,
    /// `None` if the subject was forgotten.
    value: Option<T>,
}

impl<T> Personal<T> {
    /// Creates a value whose subject the attribute of the event's field names.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { subject: OnceLock::new(), value: Some(value) }
    }

    /// Creates a value of `subject`, for a row or a state that does not copy it from an event.
    #[must_use]
    pub fn of(subject: Subject, value: T) -> Self {
        Self { subject: subject.into(), value: Some(value) }
    }

    /// Creates what is read after `subject` was forgotten, for tests.
    #[must_use]
    pub fn forgotten(subject: Subject) -> Self {
        Self { subject: subject.into(), value: None }
    }

    /// Returns the value; `None` if the subject was forgotten.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Returns the value; `None` if the subject was forgotten.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        self.value
    }

    /// Returns whether the subject was forgotten.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.value.is_none()
    }

    /// Returns the subject; `None` if the value was created without one and is not part of a stored event yet.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.subject.get()
    }

    /// Converts the value, and keeps the subject.
    #[must_use]
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Personal<U> {
        Personal { subject: self.subject, value: self.value.map(convert) }
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: PartialEq> PartialEq for Personal<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Personal<T> {}

impl<T: Hash> Hash for Personal<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_forgotten() { "Personal(forgotten)" } else { "Personal(hidden)" })
    }
}

impl<T: Schema> Schema for Personal<T> {
    fn describe(types: &mut Types) {
        T::describe(types);
    }
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !ENCODING.get() {
            return Err(S::Error::custom(OUTSIDE));
        }
        let subject = self.subject.get().ok_or_else(|| S::Error::custom(NO_SUBJECT))?.clone();
        let value = self.value.as_ref().map(serde_json::to_vec).transpose().map_err(S::Error::custom)?;
        let content = Transit { subject, value }.encode().map_err(S::Error::custom)?;
        IN_USE.store(true, Ordering::Relaxed);
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(TRANSIT, &content)?;
        map.end()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PersonalVisitor(PhantomData))
    }
}

struct PersonalVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for PersonalVisitor<T> {
    type Value = Personal<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("personal data")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Personal<T>, M::Error> {
        let key: Option<String> = map.next_key()?;
        match key.as_deref() {
            Some(TRANSIT) => {}
            Some(SEALED) => {
                map.next_value::<IgnoredAny>()?;
                return Err(M::Error::custom(STILL_SEALED));
            }
            _ => return Err(M::Error::custom(NOT_PERSONAL)),
        }
        let content: String = map.next_value()?;
        let Some(Transit { subject, value }) = Transit::decode(&content) else {
            return Err(M::Error::custom(NOT_PERSONAL));
        };
        if map.next_key::<String>()?.is_some() {
            return Err(M::Error::custom(NOT_PERSONAL));
        }
        let value = value.map(|json| serde_json::from_slice(&json)).transpose();
        let value = value.map_err(|_| M::Error::custom(OTHER_TYPE))?;
        Ok(Personal { subject: subject.into(), value })
    }
}

/// A type of fields with `#[personal(…)]`: [`Personal`], or an `Option` or a `Vec` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not personal data",
    label = "expected `Personal<…>`, or an `Option` or a `Vec` of it",
    note = "write `Personal<{Self}>`, which keeps the whole value under the key of its subject, or remove `#[personal(…)]`"
)]
pub trait PersonalField {
    /// Sets the subject of all values that have none. Returns `false` if one has another subject.
    #[doc(hidden)]
    fn bind(&self, subject: &Subject) -> bool;
}

impl<T> PersonalField for Personal<T> {
    fn bind(&self, subject: &Subject) -> bool {
        self.subject.get_or_init(|| subject.clone()) == subject
    }
}

impl<F: PersonalField> PersonalField for Option<F> {
    fn bind(&self, subject: &Subject) -> bool {
        self.as_ref().is_none_or(|field| field.bind(subject))
    }
}

impl<F: PersonalField> PersonalField for Vec<F> {
    fn bind(&self, subject: &Subject) -> bool {
        self.iter().all(|field| field.bind(subject))
    }
}

/// Sets the subject of a personal field of the event `event` before it is encoded. For generated code.
///
/// # Errors
///
/// [`EncodeError`] if `subject` is not a valid subject, or the value belongs to another one.
#[doc(hidden)]
pub fn bind<F: PersonalField + ?Sized, S: Display + ?Sized>(
    event: &str,
    name: &str,
    field: &F,
    subject: &S,
) -> Result<(), EncodeError> {
    bound(name, field, subject).map_err(|reason| EncodeError::new(event, reason))
}

/// Sets the subject of a personal field of a row of `model` before it is encoded. For generated code.
///
/// # Errors
///
/// [`ReadModelError::Encode`] if `subject` is not a valid subject, or the value belongs to another one.
#[doc(hidden)]
pub fn bind_of_row<F: PersonalField + ?Sized, S: Display + ?Sized>(
    model: &'static str,
    name: &str,
    field: &F,
    subject: &S,
) -> Result<(), ReadModelError> {
    bound(name, field, subject).map_err(|reason| ReadModelError::Encode { model, reason })
}

fn bound<F: PersonalField + ?Sized, S: Display + ?Sized>(
    name: &str,
    field: &F,
    subject: &S,
) -> Result<(), String> {
    let subject = Subject::new(subject).map_err(|error| error.to_string())?;
    match field.bind(&subject) {
        true => Ok(()),
        false => Err(format!(
            "the personal data in `{name}` belongs to another subject than `{subject}`: create it with `Personal::new`, or \
             name the field with its subject"
        )),
    }
}

thread_local! {
    /// Whether the framework is serializing on this thread.
    static ENCODING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this process has handled personal data. If not, no payload needs to be searched for it.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// Allows the serialization of personal data in `encode`. The result is to be stored.
pub(crate) fn encoding<T>(encode: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ENCODING.set(self.0);
        }
    }
    let _restore = Restore(ENCODING.replace(true));
    encode()
}

/// The treatment of personal data in an event that leaves the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    /// Its fields are removed.
    Absent,
    /// Its fields contain the values. Those of forgotten subjects are removed.
    Revealed,
    /// Its fields contain a text instead of the values.
    Redacted,
}

/// Serializes a value for people who operate an application. Personal data in it is shown as the text `(personal)`, or
/// `(forgotten)` if its subject was forgotten.
///
/// ```
/// use es_core::personal::{Personal, Subject, redacted};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = Personal::of(Subject::new("17")?, "Ann".to_owned());
/// assert_eq!(redacted(&name)?, "(personal)");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`serde_json::to_value`]. A personal value without a subject cannot be serialized.
pub fn redacted<T: Serialize + ?Sized>(value: &T) -> Result<serde_json::Value, serde_json::Error> {
    let json = encoding(|| serde_json::to_string(value))?;
    let json = for_outside(&json, Outside::Redacted).map_err(serde::ser::Error::custom)?;
    serde_json::from_str(&json)
}

/// Returns the payload of an event for readers outside of the system.
///
/// # Errors
///
/// A text without values if the payload is not JSON, or its values are to be revealed, but sealed.
pub(crate) fn for_outside(json: &str, outside: Outside) -> Result<Cow<'_, str>, &'static str> {
    if !json.contains(TRANSIT) && !json.contains(SEALED) {
        return Ok(json.into());
    }
    let mut replace = |found: Found<'_>, _: &str| match (outside, found) {
        (
            Outside::Redacted,
            Found::Transit(Transit { value: None, .. }) | Found::Sealed(Sealed { value: None, .. }),
        ) => Ok(Replacement::Json("\"(forgotten)\"".to_owned())),
        (Outside::Redacted, _) => Ok(Replacement::Json("\"(personal)\"".to_owned())),
        (Outside::Absent, _)
        | (_, Found::Transit(Transit { value: None, .. }) | Found::Sealed(Sealed { value: None, .. })) => {
            Ok(Replacement::Nothing)
        }
        (Outside::Revealed, Found::Transit(Transit { value: Some(value), .. })) => {
            String::from_utf8(value).map(Replacement::Json).map_err(|_| OTHER_TYPE)
        }
        (Outside::Revealed, Found::Sealed(_)) => Err(STILL_SEALED),
    };
    match rewrite(json, &mut replace) {
        Ok(json) => Ok(json.into()),
        Err(RewriteError::Failed(reason)) => Err(reason),
        Err(RewriteError::Malformed) => Err("its payload is not JSON"),
    }
}

/// Returns whether a payload contains personal data in transit, which only a [`SealedStore`] can write.
pub(crate) fn is_in_transit(json: &str) -> bool {
    IN_USE.load(Ordering::Relaxed) && json.contains(TRANSIT) && has_transit(json)
}

#[cold]
fn has_transit(json: &str) -> bool {
    let mut search = |found: Found<'_>, _: &str| match found {
        Found::Transit(_) => Err(()),
        Found::Sealed(_) => Ok(Replacement::Unchanged),
    };
    matches!(rewrite(json, &mut search), Err(RewriteError::Failed(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Subject {
        Subject::new("ann").expect("valid")
    }

    fn name() -> Personal<String> {
        Personal::of(ann(), "Ann".to_owned())
    }

    fn encoded<T: Serialize>(value: &T) -> String {
        encoding(|| serde_json::to_string(value)).expect("encoded")
    }

    #[test]
    fn a_value_survives_the_transit_and_is_not_in_plain_text() {
        let json = encoded(&name());
        assert!(is_in_transit(&json) && !json.contains("Ann"), "{json}");
        let decoded: Personal<String> = serde_json::from_str(&json).expect("decoded");
        assert_eq!((decoded.subject(), decoded.value().map(String::as_str)), (Some(&ann()), Some("Ann")));

        let forgotten: Personal<String> = Personal::forgotten(ann());
        let decoded: Personal<String> = serde_json::from_str(&encoded(&forgotten)).expect("decoded");
        assert!(decoded.is_forgotten() && decoded.subject() == Some(&ann()));

        // A value that JSON writes as null is a value.
        let nothing: Personal<Option<u8>> = Personal::of(ann(), None);
        let decoded: Personal<Option<u8>> = serde_json::from_str(&encoded(&nothing)).expect("decoded");
        assert_eq!(decoded.value(), Some(&None));
    }

    #[test]
    fn a_value_cannot_be_serialized_outside_of_the_framework() {
        let error = serde_json::to_string(&name()).expect_err("refused");
        assert_eq!(error.to_string(), OUTSIDE);
        encoding(|| {
            assert!(encoding(|| serde_json::to_value(name())).is_ok());
            assert!(serde_json::to_value(name()).is_ok(), "the permission of the outer scope remains");
        });
        assert!(serde_json::to_value(name()).is_err(), "the permission has ended");
    }

    #[test]
    fn a_redacted_value_says_only_whether_it_is_forgotten() {
        let forgotten: Personal<String> = Personal::forgotten(ann());
        let state = serde_json::json!({
            "names": redacted(&[name(), forgotten]).expect("serialized"),
            // An encoded payload, and a sealed one.
            "payload": redacted(&encoding(|| serde_json::to_value(name())).expect("encoded")).expect("serialized"),
            "stored": redacted(&serde_json::json!({ "$sealed": { "subject": "ann", "value": "x" } })).expect("serialized"),
        });
        let expected = serde_json::json!({
            "names": ["(personal)", "(forgotten)"], "payload": "(personal)", "stored": "(personal)",
        });
        assert_eq!(state, expected);
        assert_eq!(redacted(&[1, 2]).expect("serialized"), serde_json::json!([1, 2]));
    }

    #[test]
    fn a_value_without_a_subject_cannot_be_serialized() {
        let error = encoding(|| serde_json::to_string(&Personal::new(1))).expect_err("refused");
        assert_eq!(error.to_string(), NO_SUBJECT);
    }

    #[test]
    fn other_forms_cannot_be_deserialized() {
        let cases = [
            ("{\"$sealed\":{\"subject\":\"ann\",\"value\":\"x\"}}", STILL_SEALED),
            ("{\"$transit\":\"x\"}", NOT_PERSONAL),
            ("{\"value\":\"Ann\"}", NOT_PERSONAL),
            ("{}", NOT_PERSONAL),
        ];
        for (json, reason) in cases {
            let error = serde_json::from_str::<Personal<String>>(json).expect_err("refused");
            assert!(error.to_string().starts_with(reason), "{error}");
        }
        assert!(serde_json::from_str::<Personal<String>>("\"Ann\"").is_err(), "plain text");
        let error = serde_json::from_str::<Personal<u8>>(&encoded(&name())).expect_err("refused");
        assert!(error.to_string().starts_with(OTHER_TYPE), "{error}");
    }

    #[test]
    fn nothing_shows_a_value() {
        assert_eq!(format!("{:?}", name()), "Personal(hidden)");
        assert_eq!(
            format!("{:#?}", Some(Personal::<u8>::forgotten(ann()))),
            "Some(\n    Personal(forgotten),\n)"
        );
    }

    #[test]
    fn subjects_are_bound_once() {
        let value = Personal::new(1);
        assert!(bind("Registered", "name", &vec![value.clone(), value], "ann").is_ok());
        let value = Personal::of(ann(), 1);
        let error = bind("Registered", "name", &Some(value), "bob").expect_err("another subject");
        assert_eq!(
            error.to_string(),
            "the event `Registered` cannot be stored: the personal data in `name` belongs to another subject than `bob`: \
             create it with `Personal::new`, or name the field with its subject"
        );
        assert!(bind("Registered", "name", &Personal::new(1), "").is_err());
        assert!(bind("Registered", "name", &Personal::new(1), "$claims").is_err());
    }
}
