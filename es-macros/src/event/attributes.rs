//! The keys of `#[event(…)]`.

use proc_macro2::{Ident, Span, TokenStream};
use syn::{Path, Type};

use crate::support::errors::Errors;
use crate::support::grammar::{Entry, Grammar, Keys};

const CRATE: (&str, &str) = ("crate", "crate = ::path::to::es_core");
const SKIP_DERIVE: (&str, &str) = ("skip_derive", "skip_derive(PartialEq)");
const NAME: (&str, &str) = ("name", "name = \"OrderPlaced\"");
const VERSION: (&str, &str) = ("version", "version = 2");
const PREVIOUS: (&str, &str) = ("previous", "previous = OrderPlacedV1");
const ALIAS: (&str, &str) = ("alias", "alias = \"OldName\"");

static OF_STRUCT: Grammar = Grammar {
    attribute: "`#[event(…)]`",
    keys: &[NAME, VERSION, PREVIOUS, ALIAS, SKIP_DERIVE, CRATE],
    repeatable: &["alias"],
    elsewhere: &[],
};
static OF_ENUM: Grammar = Grammar {
    attribute: "`#[event(…)]` on an enum",
    keys: &[SKIP_DERIVE, CRATE],
    repeatable: &[],
    elsewhere: &[
        ("name", TO_THE_VARIANT),
        ("version", TO_THE_VARIANT),
        ("previous", TO_THE_VARIANT),
        ("alias", TO_THE_VARIANT),
    ],
};
const TO_THE_VARIANT: &str = "each variant is an event, so write `#[event(…)]` with this key on the variant";
static OF_VARIANT: Grammar = Grammar {
    attribute: "`#[event(…)]` on a variant",
    keys: &[NAME, VERSION, PREVIOUS, ALIAS],
    repeatable: &["alias"],
    elsewhere: &[("skip_derive", TO_THE_ENUM), ("crate", TO_THE_ENUM)],
};
const TO_THE_ENUM: &str = "it applies to the whole family, so write it in `#[event(…)]` on the enum";

/// The derives that the macro adds.
pub(super) const DERIVES: [&str; 5] = ["Clone", "Debug", "PartialEq", "Serialize", "Deserialize"];

/// The attribute on the item.
pub(super) struct Attributes {
    pub(super) core: Path,
    pub(super) skip_derive: Vec<String>,
    pub(super) of_kind: KindAttributes,
}

/// The keys that describe one kind of event.
pub(super) struct KindAttributes {
    pub(super) name: Option<(String, Span)>,
    pub(super) version: u32,
    pub(super) previous: Option<Type>,
    pub(super) aliases: Vec<(String, Span)>,
}

impl Attributes {
    pub(super) fn read(tokens: TokenStream, is_enum: bool, errors: &mut Errors) -> Self {
        let grammar = if is_enum { &OF_ENUM } else { &OF_STRUCT };
        let keys = grammar.parse(tokens, errors);
        let core = keys.core(errors);
        if core.segments.first().is_some_and(|first| first.ident == "$crate") {
            errors.on(
                &core,
                "serde does not support `$crate` in this path: write the crate's name, as in \
                 `crate = ::my_crate::es_core`",
            );
        }
        let skipped = keys.get("skip_derive").and_then(|entry| entry.list::<Ident>(errors));
        let skipped = skipped.unwrap_or_default();
        for derive in skipped.iter().filter(|derive| !DERIVES.iter().any(|known| derive == known)) {
            errors.at(
                derive.span(),
                format!(
                    "`#[event]` does not derive `{derive}`, so it cannot be skipped: it derives {}",
                    DERIVES.map(|known| format!("`{known}`")).join(", ")
                ),
            );
        }
        let skip_derive = skipped.iter().map(ToString::to_string).collect();
        Self { core, skip_derive, of_kind: KindAttributes::read(&keys, errors) }
    }
}

impl KindAttributes {
    pub(super) fn of_variant(tokens: TokenStream, errors: &mut Errors) -> Self {
        Self::read(&OF_VARIANT.parse(tokens, errors), errors)
    }

    fn read(keys: &Keys, errors: &mut Errors) -> Self {
        let name = keys.get("name").and_then(|entry| stored_name(entry, errors));
        let aliases = keys.all("alias").filter_map(|entry| stored_name(entry, errors)).collect();
        let previous = keys.get("previous").and_then(|entry| entry.ty(errors));
        let version = keys.get("version").map(|entry| entry.number(errors));
        let number = version.flatten().map_or(1, |(number, _)| number);
        let mut attributes = Self { name, version: number, previous, aliases };
        match (version, keys.get("previous")) {
            (Some(Some((0, span))), _) => {
                errors.at(span, "event versions start at 1: remove `version`, or write `version = 1`");
                attributes.version = 1;
            }
            (None | Some(Some((1, _))), Some(entry)) => {
                errors.at(
                    entry.key.span(),
                    "an event with a `previous` cannot have version 1: write `version = 2`, or one more than the \
                     version of the previous event",
                );
                attributes.previous = None;
            }
            (Some(Some((version, span))), None) if version > 1 => {
                errors.at(
                    span,
                    format!(
                        "an event of version {version} requires its version {}, to read stored events: write \
                         `previous = OldEvent`, and `impl From<OldEvent>`",
                        version - 1
                    ),
                );
            }
            _ => {}
        }
        attributes
    }
}

fn stored_name(entry: &Entry, errors: &mut Errors) -> Option<(String, Span)> {
    let text = entry.text(errors)?;
    let name = text.value();
    if name.trim().is_empty() {
        errors.at(
            text.span(),
            "the stored name of an event cannot be empty: write a name as in `name = \"OrderPlaced\"`",
        );
        return None;
    }
    Some((name, text.span()))
}
