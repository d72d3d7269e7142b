//! JSON payloads, with errors that do not quote values.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DecodeError, EncodeError, EventData};
use crate::personal::{REASONS, encoding};

/// Returns the payload of `value`, an event with the stored name `name`.
///
/// # Errors
///
/// [`EncodeError`] if the value cannot be represented in JSON.
pub fn encode_json<T: Serialize>(name: &str, value: &T) -> Result<String, EncodeError> {
    encoding(|| serde_json::to_string(value)).map_err(|error| EncodeError::new(name, without_values(&error)))
}

/// Decodes the payload of a stored event as a `T`.
///
/// # Errors
///
/// [`DecodeError::Malformed`] if the payload is not JSON, or does not match the type.
pub fn decode_json<T: DeserializeOwned>(stored: &EventData) -> Result<T, DecodeError> {
    serde_json::from_str(stored.payload()).map_err(|error| malformed(stored, &error))
}

pub(super) fn malformed(stored: &EventData, error: &serde_json::Error) -> DecodeError {
    DecodeError::Malformed {
        name: stored.name().to_owned(),
        version: stored.version(),
        reason: without_values(error),
    }
}

/// Returns the text of a `serde_json` error without the values that it quotes.
///
/// serde reports a mismatch as `invalid type: string "…", expected u64`. The text between the kind of the value and the
/// expectation is content of the payload.
pub(crate) fn without_values(error: &serde_json::Error) -> String {
    let place = if error.line() == 0 {
        String::new()
    } else {
        format!(" at line {} column {}", error.line(), error.column())
    };
    let message = error.to_string();
    let message = message.strip_suffix(&place).unwrap_or(&message);

    if let Some(reason) = REASONS.iter().find(|reason| **reason == message) {
        return format!("{reason}{place}");
    }
    // These two contain only field names of the schema, nothing of the payload.
    if message.starts_with("missing field") || message.starts_with("duplicate field") || !error.is_data() {
        return format!("{message}{place}");
    }
    // For a type without fields or variants, the message has no expectation. A text that looks like one is part of a
    // quoted name.
    let expects_none =
        message.ends_with(", there are no fields") || message.ends_with(", there are no variants");
    let expected = match message.rfind(", expected ") {
        Some(at) if !expects_none => &message[at..],
        _ => "",
    };
    let found = message[..message.len() - expected.len()]
        .find(['`', '"'])
        .map_or_else(|| &message[..message.len() - expected.len()], |quote| message[..quote].trim_end());
    let standard = ["invalid type", "invalid value", "invalid length", "unknown variant", "unknown field"];
    if standard.iter().any(|start| found.starts_with(start)) {
        format!("{found}{expected}{place}")
    } else {
        format!("a value was rejected by its type{place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, Serialize)]
    struct Card {
        number: u64,
        kind: Kind,
    }

    #[derive(Debug, Deserialize, Serialize)]
    enum Kind {
        Debit,
        Credit,
    }

    fn reason(payload: &str) -> String {
        match decode_json::<Card>(&EventData::new("Card", 1, payload)) {
            Err(DecodeError::Malformed { reason, .. }) => reason,
            other => panic!("expected a malformed payload, got {other:?}"),
        }
    }

    #[test]
    fn says_what_is_wrong_without_quoting_values() {
        assert_eq!(
            reason(r#"{"number": "secret, expected", "kind": "Debit"}"#),
            "invalid type: string, expected u64 at line 1 column 29"
        );
        assert_eq!(
            reason(r#"{"number": 1, "kind": "Secret"}"#),
            "unknown variant, expected `Debit` or `Credit` at line 1 column 30"
        );
        assert_eq!(
            reason(r#"{"number": -17, "kind": "Debit"}"#),
            "invalid value: integer, expected u64 at line 1 column 14"
        );
        assert_eq!(reason(r#"{"kind": "Debit"}"#), "missing field `number` at line 1 column 17");
        assert_eq!(reason("{"), "EOF while parsing an object at line 1 column 1");
    }

    #[test]
    fn a_name_that_looks_like_an_expectation_is_left_out() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Closed {}
        let stored = EventData::new("Closed", 1, r#"{"a, expected secret": 1}"#);
        let error = decode_json::<Closed>(&stored).expect_err("unknown field").to_string();
        assert!(error.ends_with("does not match its type: unknown field at line 1 column 21"), "{error}");
    }

    #[test]
    fn a_types_own_message_is_left_out() {
        #[derive(Debug)]
        struct Picky;
        impl<'de> Deserialize<'de> for Picky {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Err(serde::de::Error::custom(format!("do not like {text}")))
            }
        }
        let error = decode_json::<Picky>(&EventData::new("Card", 1, "\"secret\"")).expect_err("refused");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
