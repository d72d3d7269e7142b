//! The bodies of requests: JSON objects, taken apart field by field, so that a mistake is told by its name.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;

/// The fields of a body.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The field `name`, which is `what`.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, what: &str) -> Result<T, Problem> {
        let value = self.0.remove(name).unwrap_or_default();
        serde_json::from_value(value).map_err(|_| Problem::malformed(name, format!("`{name}` is {what}")))
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::from_request(request, state).await {
            Ok(Json(fields)) => Ok(Self(fields)),
            Err(JsonRejection::JsonSyntaxError(_) | JsonRejection::JsonDataError(_)) => {
                Err(Problem::malformed("body", "the body is a JSON object"))
            }
            Err(rejection) if rejection.status() == StatusCode::BAD_REQUEST => {
                Err(Problem::malformed("body", "the body could not be read"))
            }
            // No JSON by its content type, or too long.
            Err(rejection) => Err(Problem::plain(rejection.status())),
        }
    }
}
