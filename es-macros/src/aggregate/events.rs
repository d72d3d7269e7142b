//! The keys that define the events of an aggregate: `events(…)` with `event_enum`, or `event = …`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt;
use syn::{DeriveInput, Path, Type};

use crate::support::errors::Errors;
use crate::support::grammar::{Entry, Keys};
use crate::support::tokens::text;

/// The events of an aggregate.
pub(super) enum Events {
    /// A list of events, and the name of the enum that is generated from it.
    Listed { name: Ident, events: Vec<(Ident, Path)> },
    /// An enum with `#[event]`.
    Family(Type),
}

impl Events {
    /// An empty list.
    pub(super) fn none(item: &DeriveInput) -> Self {
        Self::Listed { name: default_name(item), events: Vec::new() }
    }

    /// Returns the types of the events.
    pub(super) fn paths(&self) -> Vec<TokenStream> {
        match self {
            Self::Listed { events, .. } => events.iter().map(|(_, path)| path.to_token_stream()).collect(),
            Self::Family(family) => vec![family.to_token_stream()],
        }
    }

    /// Reads the keys. Mistakes are reported, and the rest of the list is read.
    pub(super) fn read(item: &DeriveInput, keys: &Keys, errors: &mut Errors) -> Self {
        let chosen = keys.get("event_enum").and_then(|entry| entry.ident(errors));
        let name = chosen.unwrap_or_else(|| default_name(item));
        match (keys.get("events"), keys.get("event")) {
            (Some(events), None) => Self::list(item, events, name, errors),
            (None, Some(events)) if events.is_list() => {
                errors.at(
                    events.key.span(),
                    "write `events(…)` for a list of events: `event = OrderEvent` names a single enum of events",
                );
                Self::list(item, events, name, errors)
            }
            (None, Some(family)) => {
                if let Some(entry) = keys.get("event_enum") {
                    errors.at(
                        entry.key.span(),
                        "`event_enum` names the enum that `events(…)` generates, and `event = …` generates none: \
                         remove `event_enum`",
                    );
                }
                family.ty(errors).map_or_else(|| Self::none(item), Self::Family)
            }
            (Some(events), Some(family)) => {
                errors.at(
                    family.key.span(),
                    "an aggregate has either `events(…)`, a list of structs, or `event = …`, an enum: remove one",
                );
                Self::list(item, events, name, errors)
            }
            (None, None) => {
                errors.on(
                    &item.ident,
                    format!(
                        "the aggregate `{}` has no events: add `events(OrderPlaced, OrderShipped)` to \
                         `#[aggregate(…)]`, or `event = OrderEvent` for an enum with `#[event]`",
                        item.ident
                    ),
                );
                Self::none(item)
            }
        }
    }

    fn list(item: &DeriveInput, entry: &Entry, name: Ident, errors: &mut Errors) -> Self {
        let Some(paths) = entry.list::<Path>(errors) else {
            return Self::Listed { name, events: Vec::new() };
        };
        if paths.is_empty() {
            errors.at(
                entry.key.span(),
                format!(
                    "the aggregate `{}` has no events: list them as in `events(OrderPlaced)`",
                    item.ident
                ),
            );
        }
        Self::Listed { name, events: with_variants(&paths, errors) }
    }
}

/// Returns the events with their variants. Duplicates are reported and left out.
fn with_variants(paths: &[Path], errors: &mut Errors) -> Vec<(Ident, Path)> {
    let mut events: Vec<(Ident, Path)> = Vec::new();
    for path in paths {
        let Some(last) = path.segments.last() else { continue };
        let variant = &last.ident;
        match events.iter().find(|(other, _)| other.unraw() == variant.unraw()) {
            Some((_, other)) if text(other) == text(path) => {
                errors.on(path, format!("the event `{variant}` is listed twice: remove one"));
            }
            Some(_) => errors.on(
                path,
                format!(
                    "two events are named `{variant}`, and so would be their variants in the generated enum: import \
                     one under another name, as in `use other::{variant} as Other{variant};`"
                ),
            ),
            None => events.push((variant.clone(), path.clone())),
        }
    }
    events
}

/// Returns the default name of the generated enum.
fn default_name(item: &DeriveInput) -> Ident {
    format_ident!("{}Event", item.ident, span = item.ident.span())
}
