//! Access: the token, the headers of all responses, and requests from other sites.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use sha2::{Digest, Sha256};

use super::Context;
use super::page::{Base, Problem};

const COOKIE: &str = "es_explorer";

/// Forbids everything except the style of the pages and forms to them.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// A token, as a digest. Comparing digests takes a time that tells nothing about the token.
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Returns whether a text is the token. An empty text never is.
    fn is(&self, text: &str) -> bool {
        !text.is_empty() && Self::new(text).0 == self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(_)")
    }
}

/// Adds the headers to all responses.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Rejects requests without the token, and changes that another site requests.
pub(super) async fn authorize(State(context): State<Context>, request: Request, next: Next) -> Response {
    if !request.method().is_safe() && is_cross_site(request.headers()) {
        let problem = Problem::new(StatusCode::FORBIDDEN, "This request comes from another site.");
        return problem.into_response();
    }
    let Some(token) = &context.0.token else { return next.run(request).await };
    if presented(request.headers()).any(|text| token.is(&text)) {
        return next.run(request).await;
    }
    let query = form_pairs(request.uri().query().unwrap_or_default());
    if let Some((_, text)) = query.iter().find(|(name, _)| name == "token")
        && token.is(text)
    {
        return signed_in(&request, text);
    }
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "Open this page with its token: add ?token=… to the address, or send Authorization: Bearer ….",
    )
    .into_response()
}

/// Sets the cookie, and opens the page without the token in its address.
fn signed_in(request: &Request, token: &str) -> Response {
    let base = request.extensions().get::<Base>().cloned().unwrap_or_default();
    // One slash at most, because two would begin the address of another host.
    let path = match request.uri().path().trim_start_matches('/') {
        "" => base.to(&[]),
        page => format!("{base}/{page}"),
    };
    let encoded: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let cookie = format!("{COOKIE}={encoded}; Path={}; HttpOnly; SameSite=Strict", base.to(&[]));
    match HeaderValue::from_str(&cookie) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(&path)).into_response(),
        Err(_) => Problem::new(StatusCode::BAD_REQUEST, "The token cannot be a cookie.").into_response(),
    }
}

fn form_pairs(text: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// Returns the tokens of a request.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let texts = |name| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let bearer =
        texts(header::AUTHORIZATION).filter_map(|text| text.strip_prefix("Bearer ")).map(str::to_owned);
    let cookies = texts(header::COOKIE).flat_map(|text| text.split(';'));
    let cookie = cookies.filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    bearer.chain(cookie.filter_map(|value| form_pairs(&format!("v={value}")).pop().map(|(_, token)| token)))
}

/// Returns whether a browser says that another site has made the request. Browsers send one of these headers with every
/// form; other programs send neither.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => origin.split_once("://").map(|(_, host)| host) != Some(host),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn requests_of_other_sites_are_recognized() {
        for own in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://localhost:8080"), ("host", "localhost:8080")],
        ] {
            assert!(!is_cross_site(&headers(own)), "{own:?}");
        }
        for other in [
            &[("sec-fetch-site", "cross-site"), ("host", "localhost:8080")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://localhost:9090"), ("host", "localhost:8080")],
            &[("origin", "null"), ("host", "localhost:8080")],
            &[("origin", "http://localhost:8080")],
        ] {
            assert!(is_cross_site(&headers(other)), "{other:?}");
        }
    }

    #[test]
    fn a_token_is_a_header_or_a_cookie() {
        let found = |pairs| presented(&headers(pairs)).collect::<Vec<_>>();
        assert_eq!(found(&[("authorization", "Bearer a b")]), ["a b"]);
        assert_eq!(found(&[("cookie", "x=1; es_explorer=a+b%2F; y=2")]), ["a b/"]);
        assert!(found(&[("authorization", "Basic abc"), ("cookie", "es_explorer2=x")]).is_empty());
        assert!(Token::new("secret").is("secret") && !Token::new("secret").is("Secret"));
        assert!(!format!("{:?}", Token::new("secret")).contains("secret"));
    }
}
