//! The key `events(Order(OrderPlaced), Stock(…))`.

use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Path, Token, parenthesized};

use crate::support::errors::Errors;
use crate::support::grammar::Entry;
use crate::support::tokens::text;

/// Events of one aggregate.
pub(super) struct Source {
    pub(super) aggregate: Path,
    pub(super) events: Vec<Path>,
}

/// A source, or the mistake in it.
struct Part(syn::Result<Source>);

impl Parse for Part {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let aggregate: Path = input.call(Path::parse_mod_style)?;
        if !input.peek(syn::token::Paren) {
            let name = text(&aggregate);
            return Ok(Self(Err(syn::Error::new_spanned(
                aggregate,
                format!(
                    "`{name}` is not in the parentheses of an aggregate: write each aggregate with its events, as in \
                     `events(Order(OrderPlaced, OrderShipped))`"
                ),
            ))));
        }
        let content;
        parenthesized!(content in input);
        let events = Punctuated::<Path, Token![,]>::parse_terminated_with(&content, Path::parse_mod_style)?;
        Ok(Self(Ok(Source { aggregate, events: events.into_iter().collect() })))
    }
}

/// Reads the key. Mistakes are reported and left out.
pub(super) fn read(entry: &Entry, errors: &mut Errors) -> Vec<Source> {
    let Some(tokens) = entry.nested(errors) else { return Vec::new() };
    let parser = Punctuated::<Part, Token![,]>::parse_terminated;
    let Some(parts) = errors.keep(parser.parse2(tokens)) else { return Vec::new() };
    let is_empty = parts.is_empty();
    let sources: Vec<Source> = parts.into_iter().filter_map(|Part(source)| errors.keep(source)).collect();
    if (is_empty || !sources.is_empty()) && sources.iter().all(|source| source.events.is_empty()) {
        errors.at(entry.key.span(), entry.malformed_message());
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    for source in &sources {
        for event in &source.events {
            let pair = (text(&source.aggregate), text(event));
            if seen.contains(&pair) {
                errors.on(event, listed_twice(event));
            }
            seen.push(pair);
        }
    }
    sources
}

/// The message for a duplicate in a list of events.
pub(super) fn listed_twice(event: &Path) -> String {
    format!("the event `{}` is listed twice: remove one", text(event))
}

/// Returns each path once.
pub(super) fn distinct<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<Path> {
    let mut distinct: Vec<Path> = Vec::new();
    for path in paths {
        if distinct.iter().all(|before| text(before) != text(path)) {
            distinct.push(path.clone());
        }
    }
    distinct
}
