//! What `#[event(…)]` says.

use proc_macro2::{Ident, Span, TokenStream};
use syn::{Path, Type, parse_quote};

use crate::errors::Errors;
use crate::keys::{Entry, Grammar};

const CRATE: (&str, &str) = ("crate", "crate = ::path::to::es_core");
const SKIP_DERIVE: (&str, &str) = ("skip_derive", "skip_derive(PartialEq)");
const NAME: (&str, &str) = ("name", "name = \"OrderPlaced\"");
const VERSION: (&str, &str) = ("version", "version = 2");
const PREVIOUS: (&str, &str) = ("previous", "previous = OrderPlacedV1");
const ALIAS: (&str, &str) = ("alias", "alias = \"OldName\"");

const OF_STRUCT: Grammar = Grammar {
    attribute: "#[event(…)]",
    keys: &[NAME, VERSION, PREVIOUS, ALIAS, SKIP_DERIVE, CRATE],
    repeatable: &["alias"],
    elsewhere: &[],
};
const OF_ENUM: Grammar = Grammar {
    attribute: "#[event(…)] on an enum",
    keys: &[SKIP_DERIVE, CRATE],
    repeatable: &[],
    elsewhere: &[
        ("name", TO_THE_VARIANT),
        ("version", TO_THE_VARIANT),
        ("previous", TO_THE_VARIANT),
        ("alias", TO_THE_VARIANT),
    ],
};
const TO_THE_VARIANT: &str = "every variant is an event of its own, so write `#[event(…)]` with this key above the variant that it is about";
const OF_VARIANT: Grammar = Grammar {
    attribute: "#[event(…)] on a variant",
    keys: &[NAME, VERSION, PREVIOUS, ALIAS],
    repeatable: &["alias"],
    elsewhere: &[("skip_derive", TO_THE_ENUM), ("crate", TO_THE_ENUM)],
};
const TO_THE_ENUM: &str = "it is about the whole enum, so write it in the `#[event(…)]` above the enum";

/// The derives that the macro adds.
pub(super) const DERIVES: [&str; 5] = ["Clone", "Debug", "PartialEq", "Serialize", "Deserialize"];

/// What the attribute on the item says.
pub(super) struct Attributes {
    pub(super) core: Path,
    pub(super) skip_derive: Vec<String>,
    pub(super) of_kind: KindAttributes,
}

/// What an attribute says about one kind of event.
pub(super) struct KindAttributes {
    pub(super) name: Option<(String, Span)>,
    pub(super) version: u32,
    pub(super) previous: Option<Type>,
    pub(super) aliases: Vec<(String, Span)>,
}

impl Attributes {
    pub(super) fn read(tokens: TokenStream, is_enum: bool, errors: &mut Errors) -> Self {
        let grammar = if is_enum { &OF_ENUM } else { &OF_STRUCT };
        let entries = grammar.parse(tokens, errors);
        let mut core = parse_quote!(::es_core);
        let mut skip_derive = Vec::new();
        for entry in &entries {
            if entry.key == "crate" {
                core = entry.path(grammar, errors).unwrap_or(core);
                if core.segments.first().is_some_and(|first| first.ident == "$crate") {
                    errors.on(
                        &core,
                        "serde, which reads this path too, does not know `$crate`: write it with the crate's \
                         name, as in `crate = ::my_crate::es_core`",
                    );
                }
            } else if entry.key == "skip_derive" {
                for derive in entry.list::<Ident>(grammar, errors).unwrap_or_default() {
                    if !DERIVES.iter().any(|known| derive == known) {
                        errors.at(
                            derive.span(),
                            format!(
                                "`#[event]` does not derive `{derive}`, so it cannot be skipped; it derives {}",
                                DERIVES.map(|known| format!("`{known}`")).join(", ")
                            ),
                        );
                    }
                    skip_derive.push(derive.to_string());
                }
            }
        }
        Self { core, skip_derive, of_kind: KindAttributes::from_entries(&entries, grammar, errors) }
    }
}

impl KindAttributes {
    pub(super) fn of_variant(tokens: TokenStream, errors: &mut Errors) -> Self {
        let entries = OF_VARIANT.parse(tokens, errors);
        Self::from_entries(&entries, &OF_VARIANT, errors)
    }

    fn from_entries(entries: &[Entry], grammar: &Grammar, errors: &mut Errors) -> Self {
        let mut attributes = Self { name: None, version: 1, previous: None, aliases: Vec::new() };
        let mut version_at = None;
        for entry in entries {
            match entry.key.to_string().as_str() {
                "name" => attributes.name = stored_name(entry, grammar, errors),
                "alias" => attributes.aliases.extend(stored_name(entry, grammar, errors)),
                "previous" => attributes.previous = entry.ty(grammar, errors),
                "version" => {
                    if let Some((version, span)) = entry.number(grammar, errors) {
                        version_at = Some(span);
                        attributes.version = version;
                    }
                }
                _ => {}
            }
        }
        let gave_previous = entries.iter().find(|entry| entry.key == "previous");
        match (attributes.version, version_at, gave_previous) {
            (0, Some(span), _) => {
                errors.at(span, "versions of events start at 1: leave `version` out, or write `version = 1`");
                attributes.version = 1;
            }
            (1, _, Some(entry)) => {
                errors.at(
                    entry.key.span(),
                    "an event with a `previous` is not the first version: write `version = 2`, \
                     or one more than the previous event has",
                );
                attributes.previous = None;
            }
            (version, Some(span), None) if version > 1 => {
                errors.at(
                    span,
                    format!(
                        "an event of version {version} needs the event of version {}, so that stored ones \
                         can be read: write `previous = TheOldEvent`, and `impl From<TheOldEvent>`",
                        version - 1
                    ),
                );
            }
            _ => {}
        }
        attributes
    }
}

fn stored_name(entry: &Entry, grammar: &Grammar, errors: &mut Errors) -> Option<(String, Span)> {
    let text = entry.text(grammar, errors)?;
    let name = text.value();
    if name.trim().is_empty() {
        errors.at(
            text.span(),
            "an event's stored name cannot be empty: write what happened, as in `OrderPlaced`",
        );
        return None;
    }
    Some((name, text.span()))
}
