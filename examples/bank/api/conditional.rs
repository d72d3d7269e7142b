//! Conditional requests (RFC 9110, section 13): an account's entity tag is its version in quotes.

use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use es_core::Version;

use super::problem::Problem;
use crate::service::Expected;

/// Returns the header with the entity tag of a version.
pub fn etag(version: Version) -> (HeaderName, HeaderValue) {
    let tag =
        HeaderValue::try_from(format!("\"{version}\"")).expect("digits and quotes are a header's value");
    (ETAG, tag)
}

/// Returns the versions in `If-Match`. `*` requires that the account exists, which every command on an account
/// verifies.
pub fn if_match(headers: &HeaderMap) -> Result<Expected, Problem> {
    let mut versions = Vec::new();
    let mut given = false;
    for tag in tags(headers, &IF_MATCH)? {
        match tag {
            Tag::Any => return Ok(Expected::Any),
            Tag::Strong(tag) => versions.extend(tag.parse().map(Version::new)),
            // `If-Match` requires strong comparison, so a weak tag never matches.
            Tag::Weak(_) => {}
        }
        given = true;
    }
    Ok(if given { Expected::OneOf(versions) } else { Expected::Any })
}

/// Returns whether `If-None-Match` contains `version`, which means that the client has the current representation.
pub fn if_none_match(headers: &HeaderMap, version: Version) -> Result<bool, Problem> {
    let version = version.to_string();
    Ok(tags(headers, &IF_NONE_MATCH)?.into_iter().any(|tag| match tag {
        Tag::Any => true,
        Tag::Strong(tag) | Tag::Weak(tag) => tag == version,
    }))
}

/// A tag in a header.
enum Tag<'a> {
    Any,
    Strong(&'a str),
    Weak(&'a str),
}

/// Returns the tags in all headers with this name. Tags of this API contain no commas.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Vec<Tag<'a>>, Problem> {
    let malformed =
        || Problem::malformed(name.as_str(), format!("`{name}` must be a list of tags such as \"7\", or *"));
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        for text in value.to_str().map_err(|_| malformed())?.split(',').map(str::trim) {
            let (weak, quoted) = match text.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, text),
            };
            let tag = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            tags.push(match tag {
                _ if text == "*" => Tag::Any,
                Some(tag) if weak => Tag::Weak(tag),
                Some(tag) => Tag::Strong(tag),
                None => return Err(malformed()),
            });
        }
    }
    Ok(tags)
}
