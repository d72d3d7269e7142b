//! Lists, page by page.

use std::num::NonZeroU32;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::problem::Problem;

/// How many entries a page has, unless the client asks for fewer or more.
const DEFAULT_LIMIT: u32 = 50;

/// How many entries a page has at most.
const MAX_LIMIT: u32 = 200;

/// The page that the client asks for, in the query of the URL.
pub struct PageRequest {
    /// How many entries the page has at most.
    pub limit: u32,
    /// The `next` of the page before, or `None` for the first page.
    pub cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for PageRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(parameters) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::malformed("query", "the query is `limit` and `cursor`, URL-encoded"))?;
        let (mut limit, mut cursor) = (None, None);
        for (name, value) in parameters {
            match name.as_str() {
                "limit" if limit.is_none() => limit = Some(read_limit(&value)?),
                "cursor" if cursor.is_none() => cursor = Some(value),
                _ => {
                    let detail = "the query has `limit` and `cursor`, each at most once";
                    return Err(Problem::malformed("query", detail));
                }
            }
        }
        Ok(Self { limit: limit.unwrap_or(DEFAULT_LIMIT), cursor })
    }
}

fn read_limit(text: &str) -> Result<u32, Problem> {
    match text.parse::<NonZeroU32>() {
        Ok(limit) if limit.get() <= MAX_LIMIT => Ok(limit.get()),
        _ => Err(Problem::malformed("limit", format!("`limit` is a number from 1 to {MAX_LIMIT}"))),
    }
}
