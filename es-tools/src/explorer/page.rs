//! The frame of all pages, and parts that several pages have.

use std::error::Error;
use std::fmt;

use axum::Extension;
use axum::extract::{OriginalUri, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use es_core::chrono::{DateTime, SecondsFormat, Utc};
use es_core::projection::ProjectorError;
use es_core::read_model::ReadModelError;
use es_core::{StoreError, StreamId, error_text};
use maud::{DOCTYPE, Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::failure::in_commands;

/// Characters of a path segment that need no escape sequence.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path under which the explorer is mounted, without a final `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    /// Returns the address of a page: its path with these segments.
    pub(super) fn to(&self, segments: &[&str]) -> String {
        let mut path = self.0.clone();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        if path.is_empty() {
            path.push('/');
        }
        path
    }

    pub(super) fn stream(&self, stream: &StreamId) -> String {
        self.to(&["streams", stream.as_str()])
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A page: its title and its content.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) content: Markup,
}

/// The content of a page, or the reason why it cannot be shown.
pub(super) type Shown = Result<Page, Problem>;

impl Page {
    pub(super) fn new(title: impl Into<String>, content: Markup) -> Self {
        Self { title: title.into(), content }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        (StatusCode::OK, Extension(self)).into_response()
    }
}

/// A page that reports an error.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: in_commands(text) }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn invalid(error: &(dyn Error + 'static)) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error_text(error))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Invalid { .. } => StatusCode::BAD_REQUEST,
            error if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error_text(&error))
    }
}

impl From<ProjectorError> for Problem {
    fn from(error: ProjectorError) -> Self {
        let status = match error.is_transient() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::CONFLICT,
        };
        Self::new(status, error_text(&error))
    }
}

impl From<ReadModelError> for Problem {
    fn from(error: ReadModelError) -> Self {
        let status = match error.is_transient() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error_text(&error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let page = Page::new(title, html! { p.problem { (self.text) } });
        (self.status, Extension(page)).into_response()
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::not_found("There is no such page.")
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css"))
}

/// Finds out where the explorer is mounted, and puts the content of pages into their frame.
pub(super) async fn render(OriginalUri(original): OriginalUri, mut request: Request, next: Next) -> Response {
    let (path, original) = (request.uri().path(), original.path());
    // A router that is nested under a path has its start page at this path, without a final `/`.
    let start = (path == "/").then_some(original);
    let base = Base(original.strip_suffix(path).or(start).unwrap_or_default().to_owned());
    request.extensions_mut().insert(base.clone());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Page>() {
        Some(page) => (response.status(), Html(framed(&base, &page).into_string())).into_response(),
        None => response,
    }
}

fn framed(base: &Base, page: &Page) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) " – Explorer" }
                link rel="stylesheet" href=(base.to(&["style.css"]));
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    nav aria-label="Pages" {
                        a href=(base.to(&[])) { "Overview" }
                        a href=(base.to(&["feed"])) { "Feed" }
                        a href=(base.to(&["indexers"])) { "Indexers" }
                    }
                    form role="search" action=(base.to(&["search"])) method="get" {
                        label for="kind" { "Find" }
                        select #kind name="kind" {
                            option value="stream" { "stream" }
                            option value="trace" { "correlation, commit, or event" }
                            option value="claim" { "claim (name=value)" }
                            option value="key" { "idempotency key" }
                        }
                        label.hidden for="text" { "Text" }
                        input #text name="text" type="search" required placeholder="order#1001";
                        button { "Search" }
                    }
                }
                main #main tabindex="-1" {
                    h1 { (page.title) }
                    (page.content)
                }
            }
        }
    }
}

/// Returns a table that scrolls on narrow screens. `label` describes it for screen readers. Titles of columns with
/// numbers begin with `>`.
pub(super) fn table(label: &str, titles: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table {
                thead {
                    tr {
                        @for title in titles {
                            @match title.strip_prefix('>') {
                                Some(title) => th.number scope="col" { (title) }
                                None => th scope="col" { (title) }
                            }
                        }
                    }
                }
                tbody { (rows) }
            }
        }
    }
}

pub(super) fn time(time: DateTime<Utc>) -> Markup {
    let text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    html! { time datetime=(text) { (text) } }
}

/// Returns the marker of a state, with a color for each severity.
pub(super) fn badge(state: &str) -> Markup {
    let class = match state {
        "ok" | "running" => "good",
        "stopped" => "bad",
        _ => "neutral",
    };
    html! { span.badge.(class) { (state) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded() {
        let base = Base("/admin/explorer".to_owned());
        assert_eq!(base.to(&["streams", "order#a/b ü"]), "/admin/explorer/streams/order%23a%2Fb%20%C3%BC");
        assert_eq!(base.to(&[]), "/admin/explorer");
        assert_eq!(Base::default().to(&[]), "/");
    }
}
