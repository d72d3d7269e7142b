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
    pub(super) fn read(
        item: &DeriveInput,
        grammar: &Grammar,
        events: Option<&Entry>,
        family: Option<&Entry>,
        name: Option<&Entry>,
        errors: &mut Errors,
    ) -> Option<Self> {
        let members = match (events, family) {
            (Some(events), None) => {
                let paths = events.list::<Path>(grammar, errors)?;
                if paths.is_empty() {
                    errors.at(
                        events.key.span(),
                        format!(
                            "the aggregate `{}` has no events: list them as in `events(OrderPlaced)`",
                            item.ident
                        ),
                    );
                }
                let chosen = name.and_then(|entry| entry.ident(grammar, errors));
                Self::Listed {
                    name: chosen.unwrap_or_else(|| default_enum(item)),
                    events: listed(&paths, errors),
                }
            }
            (None, Some(family)) => Self::Family(family.ty(grammar, errors)?),
            (Some(_), Some(family)) => {
                errors.at(
                    family.key.span(),
                    "an aggregate has `events(…)`, a list of structs, or `event = …`, one enum: keep one of them",
                );
                return None;
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
                return None;
            }
        };
        if let (Self::Family(_), Some(name)) = (&members, name) {
            errors.at(
                name.key.span(),
                "`event_enum` names the enum that `events(…)` generates; `event = …` has one",
            );
        }
        Some(members)
    }
}

/// The events with the variants that they get. What is listed twice is reported and left out.
fn listed(paths: &[Path], errors: &mut Errors) -> Vec<(Ident, Path)> {
    let mut events: Vec<(Ident, Path)> = Vec::new();
    for path in paths {
        let Some(last) = path.segments.last() else { continue };
        let variant = last.ident.unraw();
        match events.iter().find(|(other, _)| *other == variant) {
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
            None => events.push((variant, path.clone())),
        }
    }
    events
}
