//! The events of an aggregate: `events(…)` or `event = …`.

use proc_macro2::Ident;
use syn::ext::IdentExt;
use syn::{DeriveInput, Path, Type};

use super::attributes::default_enum;
use crate::errors::Errors;
use crate::keys::{Entry, Grammar};
use crate::shape::text;

/// What an aggregate's events are.
pub(super) enum Members {
    /// The events of a list, and the name of the enum that is generated from them.
    Listed { name: Ident, events: Vec<(Ident, Path)> },
    /// A family that is an enum already.
    Family(Type),
}

impl Members {
    /// A list without events.
    pub(super) fn none(name: Ident) -> Self {
        Self::Listed { name, events: Vec::new() }
    }

    /// What was mistaken has been reported; then it is a list with what is left.
    pub(super) fn read(
        item: &DeriveInput,
        grammar: &Grammar,
        events: Option<&Entry>,
        family: Option<&Entry>,
        name: Option<&Entry>,
        errors: &mut Errors,
    ) -> Self {
        let chosen = name.and_then(|entry| entry.ident(grammar, errors));
        let chosen = chosen.unwrap_or_else(|| default_enum(item));
        match (events, family) {
            (Some(events), None) => Self::list(item, grammar, events, chosen, errors),
            (None, Some(events)) if events.is_list() => {
                errors.at(
                    events.key.span(),
                    "a list of events is written `events(…)`; `event = OrderEvent` names one enum of events",
                );
                Self::list(item, grammar, events, chosen, errors)
            }
            (None, Some(family)) => {
                if let Some(name) = name {
                    errors.at(
                        name.key.span(),
                        "`event_enum` names the enum that `events(…)` generates; `event = …` has one: remove it",
                    );
                }
                family.ty(grammar, errors).map_or_else(|| Self::none(chosen), Self::Family)
            }
            (Some(events), Some(family)) => {
                errors.at(
                    family.key.span(),
                    "an aggregate has `events(…)`, a list of structs, or `event = …`, one enum: keep one of them",
                );
                Self::list(item, grammar, events, chosen, errors)
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
                Self::none(chosen)
            }
        }
    }

    fn list(item: &DeriveInput, grammar: &Grammar, events: &Entry, name: Ident, errors: &mut Errors) -> Self {
        let Some(paths) = events.list::<Path>(grammar, errors) else { return Self::none(name) };
        if paths.is_empty() {
            errors.at(
                events.key.span(),
                format!(
                    "the aggregate `{}` has no events: list them as in `events(OrderPlaced)`",
                    item.ident
                ),
            );
        }
        Self::Listed { name, events: listed(&paths, errors) }
    }
}

/// The events with the variants that they get. What is listed twice is reported and left out.
fn listed(paths: &[Path], errors: &mut Errors) -> Vec<(Ident, Path)> {
    let mut events: Vec<(Ident, Path)> = Vec::new();
    for path in paths {
        let Some(last) = path.segments.last() else { continue };
        let variant = &last.ident;
        match events.iter().find(|(other, _)| other.unraw() == variant.unraw()) {
            Some((_, other)) if text(other) == text(path) => {
                errors.on(path, format!("the event `{variant}` is listed twice: remove one of them"));
            }
            Some(_) => errors.on(
                path,
                format!(
                    "two events are called `{variant}`, which would be one variant of the generated enum: \
                     import one under another name, as in `use other::{variant} as Other{variant};`"
                ),
            ),
            None => events.push((variant.clone(), path.clone())),
        }
    }
    events
}
