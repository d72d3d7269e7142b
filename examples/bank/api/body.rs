//! The bodies of requests: JSON objects that are validated field by field, so that errors name the field.
//!
//! Validation is strict. An unknown field may be misspelled, and if a field is given twice, a proxy may have checked
//! the other value.

use std::error::Error;
use std::fmt;
use std::iter::successors;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tower_http::timeout::TimeoutError;

use super::problem::Problem;

/// The fields of a body, in the order in which they were sent.
pub struct Fields(Vec<(String, Value)>);

/// A field. Its value is `null` if it was not sent.
pub struct Field {
    name: &'static str,
    value: Value,
}

impl Fields {
    /// Returns the fields with these names, or an error if there are others.
    pub fn exactly<const N: usize>(self, names: [&'static str; N]) -> Result<[Field; N], Problem> {
        let mut fields = names.map(|name| (Field { name, value: Value::Null }, false));
        for (name, value) in self.0 {
            let field = fields.iter_mut().find(|(field, _)| field.name == name);
            match field {
                Some((_, true)) => {
                    return Err(Problem::malformed(&name, format!("`{name}` is given more than once")));
                }
                Some((field, given)) => (field.value, *given) = (value, true),
                None => {
                    let known = names.map(|name| format!("`{name}`")).join(", ");
                    // The name comes from the client, so the problem contains only its beginning.
                    let name: String = name.chars().take(50).collect();
                    let detail = format!("`{name}` is not a field of this request: use {known}");
                    return Err(Problem::malformed(&name, detail));
                }
            }
        }
        Ok(fields.map(|(field, _)| field))
    }
}

impl Field {
    /// Parses the value of the field. `what` describes it in the error.
    pub fn read<T: DeserializeOwned>(self, what: &str) -> Result<T, Problem> {
        let Self { name, value } = self;
        serde_json::from_value(value).map_err(|_| Problem::malformed(name, format!("`{name}` is {what}")))
    }
}

/// Preserves duplicate fields, which a map would drop.
impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::from_request(request, state).await {
            Ok(Json(fields)) => Ok(fields),
            Err(JsonRejection::JsonSyntaxError(_) | JsonRejection::JsonDataError(_)) => {
                Err(Problem::malformed("body", "the body must be a JSON object"))
            }
            Err(rejection) if is_timeout(&rejection) => Err(Problem::plain(StatusCode::REQUEST_TIMEOUT)),
            Err(rejection) if rejection.status() == StatusCode::BAD_REQUEST => {
                Err(Problem::malformed("body", "the body could not be read"))
            }
            // The content type is not JSON, or the body is too long.
            Err(rejection) => Err(Problem::plain(rejection.status())),
        }
    }
}

/// Returns whether the client took too long to send the body.
fn is_timeout(rejection: &JsonRejection) -> bool {
    successors(Some(rejection as &(dyn Error + 'static)), |&error| error.source())
        .any(|error| error.is::<TimeoutError>())
}
