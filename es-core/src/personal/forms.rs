//! The forms of personal data in JSON, and the conversion from one to another.
//!
//! - *In transit*, `{"$transit":"…"}`: from the serialization of a value to the store, and from the store to its
//!   deserialization. It is encrypted under a random key of this process, so that no payload in memory contains the
//!   value in plain text, and cannot be forged. It contains the subject and the value.
//! - *Sealed*, `{"$sealed":{"subject":"…","value":"…"}}`: in storage. The value is encrypted under the subject's key,
//!   and is missing if the subject was forgotten when it was written.
//! - *Sealed text*, `{"$text":"…"}`: a JSON string, such as the payload of a stored timeout, that contains JSON with
//!   sealed values.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Subject;
use super::cipher::process_key;

/// The key of the form in transit.
pub(super) const TRANSIT: &str = "$transit";
/// The key of the sealed form.
pub(super) const SEALED: &str = "$sealed";
/// The key of a sealed text.
const TEXT: &str = "$text";

/// The context of values in transit, which distinguishes them from sealed ones.
const TRANSIT_CONTEXT: &[u8] = b"es personal data in transit";

/// The length of the padding, without the length of the subject.
const PADDING_BYTES: usize = 16;

/// The maximum depth of JSON, which is that of `serde_json`.
const MAX_DEPTH: usize = 128;

/// A value in transit, as decrypted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transit {
    pub(super) subject: Subject,
    /// The value as JSON; `None` if the subject was forgotten.
    pub(super) value: Option<Vec<u8>>,
}

impl Transit {
    /// Returns the content of the form in transit.
    pub(super) fn encode(&self) -> Result<String, &'static str> {
        let subject = self.subject.as_str().as_bytes();
        let length = u16::try_from(subject.len()).map_err(|_| "the subject is too long")?;
        let value = self.value.as_deref().unwrap_or_default();
        // The limits of sizes are checked before a value is sealed, so this form must not be shorter than the sealed
        // one.
        let padding = vec![0; PADDING_BYTES + subject.len()];
        // JSON is never empty, so an empty value means that there is none.
        let plain = [&length.to_be_bytes(), subject, &padding, value].concat();
        process_key()?.seal(&plain, TRANSIT_CONTEXT).map_err(|_| "it cannot be encrypted")
    }

    /// Decodes the content of the form in transit; `None` if this process did not encode it.
    pub(super) fn decode(content: &str) -> Option<Self> {
        let plain = process_key().ok()?.open(content, TRANSIT_CONTEXT)?;
        let (length, rest) = plain.split_first_chunk::<2>()?;
        let (subject, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let (_, value) = rest.split_at_checked(PADDING_BYTES + subject.len())?;
        let subject = Subject::from_stored(std::str::from_utf8(subject).ok()?);
        Some(Self { subject, value: (!value.is_empty()).then(|| value.to_vec()) })
    }

    /// Returns the form in transit.
    pub(super) fn form(&self) -> Result<String, &'static str> {
        Ok(format!(r#"{{"{TRANSIT}":"{}"}}"#, self.encode()?))
    }
}

/// A sealed value.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde", deny_unknown_fields)]
pub(super) struct Sealed<'a> {
    #[serde(borrow)]
    pub(super) subject: Cow<'a, str>,
    /// The ciphertext; `None` if the subject was forgotten when the value was written.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Cow<'a, str>>,
}

impl Sealed<'_> {
    /// Returns the sealed form.
    pub(super) fn form(&self) -> String {
        let content = serde_json::to_string(self).expect("texts have a JSON form");
        format!(r#"{{"{SEALED}":{content}}}"#)
    }
}

/// A personal value that was found in JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Transit(Transit),
    Sealed(Sealed<'a>),
}

/// The replacement of a personal value.
pub(super) enum Replacement {
    Unchanged,
    Json(String),
    /// Removes the field or the element.
    Nothing,
}

/// The error of a rewrite.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RewriteError<E> {
    /// The text is not JSON.
    Malformed,
    /// The replacement failed.
    Failed(E),
}

/// Replaces the personal values in a JSON text. `replace` also gets the path of the value: the names of the fields as
/// written, each after a `/`, and `/[]` for an element of a list.
///
/// A string that contains JSON with values in transit becomes a sealed text if its values are replaced, and a sealed
/// text becomes a string again.
pub(super) fn rewrite<E>(
    json: &str,
    replace: &mut dyn FnMut(Found<'_>, &str) -> Result<Replacement, E>,
) -> Result<String, RewriteError<E>> {
    let mut rewriter = Rewriter {
        json,
        at: 0,
        out: String::with_capacity(json.len()),
        path: String::new(),
        depth: 0,
        replace,
    };
    rewriter.value()?;
    rewriter.space();
    match rewriter.at == json.len() {
        true => Ok(rewriter.out),
        false => Err(RewriteError::Malformed),
    }
}

/// Whether a value was written, or is to be removed.
#[derive(PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

/// Copies a JSON text and replaces the personal values in it.
struct Rewriter<'a, 'r, E> {
    json: &'a str,
    at: usize,
    out: String,
    path: String,
    depth: usize,
    replace: &'r mut dyn FnMut(Found<'_>, &str) -> Result<Replacement, E>,
}

impl<'a, E> Rewriter<'a, '_, E> {
    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    /// Copies the next byte, which must be `expected`.
    fn take(&mut self, expected: u8) -> Result<(), RewriteError<E>> {
        if self.peek() != Some(expected) {
            return Err(RewriteError::Malformed);
        }
        self.at += 1;
        self.out.push(char::from(expected));
        Ok(())
    }

    /// Copies whitespace.
    fn space(&mut self) {
        let end = self.json.len() - self.json[self.at..].trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.copy_to(end);
    }

    fn copy_to(&mut self, end: usize) {
        self.out.push_str(&self.json[self.at..end]);
        self.at = end;
    }

    fn value(&mut self) -> Result<Kept, RewriteError<E>> {
        self.space();
        match self.peek().ok_or(RewriteError::Malformed)? {
            b'{' => match self.marked() {
                Some((form, end)) => self.personal(form, end),
                None => self.nested(b'}').map(|()| Kept::Yes),
            },
            b'[' => self.nested(b']').map(|()| Kept::Yes),
            b'"' => self.string().map(|()| Kept::Yes),
            _ => {
                let rest = &self.json[self.at..];
                let length = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                if length == 0 {
                    return Err(RewriteError::Malformed);
                }
                self.copy_to(self.at + length);
                Ok(Kept::Yes)
            }
        }
    }

    /// Copies an object or a list that ends with `end`.
    fn nested(&mut self, end: u8) -> Result<(), RewriteError<E>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(RewriteError::Malformed);
        }
        let path = self.path.len();
        self.take(if end == b'}' { b'{' } else { b'[' })?;
        let mut is_first = true;
        loop {
            self.skip_space();
            if is_first && self.peek() == Some(end) {
                break;
            }
            is_first = false;
            let before = self.out.len();
            if end == b'}' {
                let name = self.name()?;
                self.space();
                self.take(b':')?;
                self.path.push('/');
                self.path.push_str(name);
            } else {
                self.path.push_str("/[]");
            }
            let kept = self.value()?;
            self.path.truncate(path);
            if kept == Kept::No {
                self.out.truncate(before);
            }
            self.skip_space();
            match self.peek() {
                Some(b',') if kept == Kept::Yes => self.take(b',')?,
                Some(b',') => self.at += 1,
                Some(next) if next == end => {
                    if kept == Kept::No && self.out.ends_with(',') {
                        self.out.pop();
                    }
                    break;
                }
                _ => return Err(RewriteError::Malformed),
            }
        }
        self.depth -= 1;
        self.take(end)
    }

    fn skip_space(&mut self) {
        self.at = self.json.len() - self.json[self.at..].trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// Copies the name of a field, and returns it as written, without its quotes.
    fn name(&mut self) -> Result<&'a str, RewriteError<E>> {
        let end = end_of_string(self.json, self.at).ok_or(RewriteError::Malformed)?;
        let name = &self.json[self.at + 1..end - 1];
        self.copy_to(end);
        Ok(name)
    }

    /// Copies a string. If it contains JSON with values in transit, they are replaced.
    fn string(&mut self) -> Result<(), RewriteError<E>> {
        let end = end_of_string(self.json, self.at).ok_or(RewriteError::Malformed)?;
        let token = &self.json[self.at..end];
        if token.contains(TRANSIT)
            && let Ok(inner) = serde_json::from_str::<String>(token)
            && let Some(sealed) = self.inside(&inner)?
        {
            let text = serde_json::to_string(&sealed).expect("a text has a JSON form");
            self.out.push_str(&format!(r#"{{"{TEXT}":{text}}}"#));
            self.at = end;
            return Ok(());
        }
        self.copy_to(end);
        Ok(())
    }

    /// Replaces the values in a text. Returns `None` if it has none, or is not JSON.
    fn inside(&mut self, inner: &str) -> Result<Option<String>, RewriteError<E>> {
        let (mut count, path) = (0, self.path.clone());
        let replace = &mut *self.replace;
        let mut counting = |found: Found<'_>, rest: &str| {
            count += 1;
            replace(found, &format!("{path}{rest}"))
        };
        match rewrite(inner, &mut counting) {
            Ok(text) if count > 0 => Ok(Some(text)),
            Ok(_) | Err(RewriteError::Malformed) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the form of a personal value at this place, and its end.
    fn marked(&self) -> Option<(Form<'a>, usize)> {
        let rest = self.json[self.at..].strip_prefix('{')?.trim_start();
        let is_marked = [TRANSIT, SEALED, TEXT]
            .iter()
            .any(|key| rest.strip_prefix('"').is_some_and(|rest| rest.starts_with(key)));
        if !is_marked {
            return None;
        }
        let mut forms = serde_json::Deserializer::from_str(&self.json[self.at..]).into_iter::<Form<'a>>();
        let form = forms.next()?.ok()?;
        Some((form, self.at + forms.byte_offset()))
    }

    fn personal(&mut self, form: Form<'a>, end: usize) -> Result<Kept, RewriteError<E>> {
        let found = match form {
            Form::Text(inner) => {
                match self.inside(&inner)? {
                    Some(text) => {
                        self.out.push_str(&serde_json::to_string(&text).expect("a text has a JSON form"));
                    }
                    None => self.out.push_str(&self.json[self.at..end]),
                }
                self.at = end;
                return Ok(Kept::Yes);
            }
            Form::Sealed(sealed) => Found::Sealed(sealed),
            Form::Transit(content) => match Transit::decode(&content) {
                Some(transit) => Found::Transit(transit),
                // Not from this process: ordinary data.
                None => {
                    self.copy_to(end);
                    return Ok(Kept::Yes);
                }
            },
        };
        match (self.replace)(found, &self.path).map_err(RewriteError::Failed)? {
            Replacement::Unchanged => self.copy_to(end),
            Replacement::Json(json) => {
                self.out.push_str(&json);
                self.at = end;
            }
            Replacement::Nothing => {
                self.at = end;
                return Ok(Kept::No);
            }
        }
        Ok(Kept::Yes)
    }
}

/// An object that may be a personal value: its only field has one of the reserved names.
#[derive(Deserialize)]
#[serde(crate = "crate::serde")]
enum Form<'a> {
    #[serde(rename = "$transit")]
    Transit(#[serde(borrow)] Cow<'a, str>),
    #[serde(rename = "$sealed")]
    Sealed(#[serde(borrow)] Sealed<'a>),
    #[serde(rename = "$text")]
    Text(String),
}

/// Returns the end of the string that starts at `at`, after its closing quote.
fn end_of_string(json: &str, at: usize) -> Option<usize> {
    let rest = json.as_bytes()[at..].strip_prefix(b"\"")?;
    let mut escaped = false;
    let length = rest.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    Some(at + length + 2)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn transit(value: Option<&str>) -> Transit {
        Transit { subject: Subject::from_stored("ann"), value: value.map(|value| value.as_bytes().to_vec()) }
    }

    fn form(value: &str) -> String {
        transit(Some(value)).form().expect("encoded")
    }

    /// Seals without encryption.
    fn seal(json: &str) -> String {
        let mut replace = |found: Found<'_>, path: &str| {
            let Found::Transit(transit) = found else { return Ok::<_, Infallible>(Replacement::Unchanged) };
            let value = transit.value.map(|value| String::from_utf8(value).expect("JSON"));
            let value = value.map(|value| Cow::Owned(format!("{path}={value}")));
            Ok(Replacement::Json(Sealed { subject: transit.subject.as_str().into(), value }.form()))
        };
        rewrite(json, &mut replace).expect("JSON")
    }

    /// Opens what `seal` has sealed.
    fn open(json: &str) -> String {
        let mut replace = |found: Found<'_>, _: &str| {
            let Found::Sealed(sealed) = found else { return Ok::<_, Infallible>(Replacement::Unchanged) };
            let value =
                sealed.value.map(|value| value.split_once('=').expect("sealed").1.as_bytes().to_vec());
            let transit = Transit { subject: Subject::from_stored(&*sealed.subject), value };
            Ok(Replacement::Json(transit.form().expect("encoded")))
        };
        rewrite(json, &mut replace).expect("JSON")
    }

    /// Replaces the values by themselves.
    fn plain(json: &str) -> String {
        let mut replace = |found: Found<'_>, _: &str| {
            let Found::Transit(transit) = found else { return Ok::<_, Infallible>(Replacement::Unchanged) };
            let value = transit.value.map(|value| String::from_utf8(value).expect("JSON"));
            Ok(Replacement::Json(value.unwrap_or_else(|| "null".to_owned())))
        };
        rewrite(json, &mut replace).expect("JSON")
    }

    #[test]
    fn values_are_replaced_where_they_are() {
        let json =
            format!(r#" {{"id": 7, "name":{}, "more":[1,{{"b":{}}}]}} "#, form("\"Ann\""), form("[1]"));
        let sealed = seal(&json);
        assert_eq!(
            sealed,
            r#" {"id": 7,"name":{"$sealed":{"subject":"ann","value":"/name=\"Ann\""}},"more":[1,{"b":{"$sealed":{"subject":"ann","value":"/more/[]/b=[1]"}}}]} "#
        );
        assert_eq!(plain(&open(&sealed)), r#" {"id": 7,"name":"Ann","more":[1,{"b":[1]}]} "#);
    }

    #[test]
    fn values_are_found_in_texts_that_contain_json() {
        let payload = format!(r#"{{"name":{}}}"#, form("\"Ann\""));
        let json = format!(r#"{{"payload":{}}}"#, serde_json::to_string(&payload).expect("JSON"));
        let sealed = seal(&json);
        let expected = r#"{"payload":{"$text":"{\"name\":{\"$sealed\":{\"subject\":\"ann\",\"value\":\"/payload/name=\\\"Ann\\\"\"}}}"}}"#;
        assert_eq!(sealed, expected);
        let opened: serde_json::Value = serde_json::from_str(&open(&sealed)).expect("JSON");
        assert_eq!(plain(opened["payload"].as_str().expect("a text again")), r#"{"name":"Ann"}"#);
    }

    #[test]
    fn fields_and_elements_can_be_removed() {
        let (a, b) = (form("1"), form("2"));
        let cases = [
            (format!(r#"{{"a":{a}}}"#), "{}"),
            (format!(r#"{{"a":{a},"c":1}}"#), r#"{"c":1}"#),
            (format!(r#"{{"c":1 , "a":{a} }}"#), r#"{"c":1}"#),
            (format!(r#"{{"a":{a},"c":[{b},2,{a}],"b":{b}}}"#), r#"{"c":[2]}"#),
            (format!(r#"[{a},{b}]"#), "[]"),
        ];
        for (json, expected) in cases {
            let removed = rewrite(&json, &mut |_, _| Ok::<_, Infallible>(Replacement::Nothing));
            assert_eq!(removed.expect("JSON"), expected, "{json}");
        }
    }

    #[test]
    fn forms_of_others_are_ordinary_data() {
        for json in [
            r#"{"a":{"$transit":"forged"}}"#,
            r#"{"a":{"$transit":5}}"#,
            r#"{"a":{"$transit":"x","b":1}}"#,
            r#"{"a":"{\"$transit\":\"forged\"}"}"#,
            r#"{"a":"$transit"}"#,
            r#"{"$sealed":5}"#,
            r#"{"$text":"no JSON"}"#,
            r#"{"$text":"{\"a\":1}"}"#,
        ] {
            let unchanged = rewrite(json, &mut |found, _| Err::<Replacement, _>(format!("{found:?}")));
            assert_eq!(unchanged.as_deref(), Ok(json));
        }
    }

    #[test]
    fn malformed_json_is_an_error_and_never_a_panic() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let malformed = [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "\"",
            "\"\\\"",
            "[,]",
            "1 2",
            &deep,
        ];
        for json in malformed {
            let result = rewrite(json, &mut |_, _| Ok::<_, ()>(Replacement::Unchanged));
            assert_eq!(result, Err(RewriteError::Malformed), "{json}");
        }
    }

    #[test]
    fn the_form_in_transit_is_never_shorter_than_the_sealed_one() {
        let key = super::super::SubjectKey::new([1; 32]);
        for subject in ["a", "\"\\\"\\", "a-long-id-of-a-customer-of-the-shop"] {
            for value in [Some("1"), Some("\"a value of some length\""), None] {
                let subject = Subject::from_stored(subject);
                let sealed = value.map(|value| Cow::Owned(key.seal(value.as_bytes(), b"").expect("sealed")));
                let sealed = Sealed { subject: subject.as_str().into(), value: sealed }.form();
                let value = value.map(|value| value.as_bytes().to_vec());
                let transit = Transit { subject, value }.form().expect("encoded");
                assert!(transit.len() >= sealed.len(), "{transit} {sealed}");
            }
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
            "[\"\\\\{}$a-c]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[\"\\\\$a-c]{0,4}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn other_json_is_copied(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let copy = rewrite(&text.expect("JSON"), &mut |found, _| Err::<Replacement, _>(format!("{found:?}")));
            let copy: serde_json::Value = serde_json::from_str(&copy.expect("copied")).expect("JSON");
            prop_assert_eq!(copy, value);
        }

        #[test]
        fn no_text_causes_a_panic(text in "[\\[\\]{}\",:\\\\ $a1]*") {
            let _ = rewrite(&text, &mut |_, _| Ok::<_, ()>(Replacement::Unchanged));
        }
    }
}
