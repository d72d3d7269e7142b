//! Personal data in tests without a store: forgetting, and samples for the schema lock.

use std::collections::BTreeSet;

use super::Subject;
use super::forms::{Found, Replacement, RewriteError, Sealed, Transit, rewrite};

/// Replaces the values in a payload; `None` keeps a value.
fn replaced(
    json: &str,
    replace: impl Fn(Found<'_>) -> Option<Result<String, String>>,
) -> Result<String, String> {
    let mut replace = |found: Found<'_>, _: &str| match replace(found) {
        Some(json) => json.map(Replacement::Json),
        None => Ok(Replacement::Unchanged),
    };
    rewrite(json, &mut replace).map_err(|error| match error {
        RewriteError::Failed(reason) => reason,
        RewriteError::Malformed => "its payload is not JSON".to_owned(),
    })
}

/// Returns the payload as it is read after `subjects` were forgotten.
pub(crate) fn forgetting(json: &str, subjects: &BTreeSet<Subject>) -> Result<String, String> {
    replaced(json, |found| match found {
        Found::Transit(Transit { subject, .. }) if subjects.contains(&subject) => {
            Some(Transit { subject, value: None }.form().map_err(str::to_owned))
        }
        _ => None,
    })
}

/// Fails if the payload has a new value of one of `subjects`, which were forgotten.
pub(crate) fn check_recordable(json: &str, subjects: &BTreeSet<Subject>) -> Result<(), String> {
    let checked = replaced(json, |found| match found {
        Found::Transit(Transit { subject, value: Some(_) }) if subjects.contains(&subject) => Some(Err(
            format!("the subject `{subject}` was forgotten, so no personal data about it can be recorded"),
        )),
        _ => None,
    });
    checked.map(drop)
}

/// Returns the payload as a sample for a file: with its values in plain text, in place of the ciphertext.
pub(crate) fn to_sample(json: &str) -> Result<String, String> {
    replaced(json, |found| {
        let Found::Transit(Transit { subject, value }) = found else { return None };
        let value = value.map(|value| String::from_utf8_lossy(&value).into_owned().into());
        Some(Ok(Sealed { subject: subject.as_str().into(), value }.form()))
    })
}

/// Returns the payload of a sample.
pub(crate) fn from_sample(json: &str) -> Result<String, String> {
    replaced(json, |found| {
        let Found::Sealed(Sealed { subject, value }) = found else { return None };
        let value = value.map(|value| value.as_bytes().to_vec());
        Some(Transit { subject: Subject::from_stored(&*subject), value }.form().map_err(str::to_owned))
    })
}
