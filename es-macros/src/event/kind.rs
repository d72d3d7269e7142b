//! One kind of event: a struct, or a variant of an enum.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::{Attribute, Fields, Type, Variant};

use super::attributes::{Attributes, KindAttributes};
use crate::errors::Errors;
use crate::keys::append;
use crate::shape::{SerdeAttributes, json_fields, json_fields_of_variant, json_types, representation};

/// A kind of event, read.
pub(super) struct Kind {
    pub(super) name: String,
    name_at: Span,
    pub(super) version: u32,
    pub(super) previous: Option<Type>,
    pub(super) aliases: Vec<String>,
    /// Name and type of each field in JSON.
    pub(super) fields: Vec<(String, String)>,
    /// The types of these fields.
    pub(super) types: Vec<Type>,
    /// The variant, for a kind of a family.
    pub(super) variant: Option<Ident>,
}

impl Kind {
    pub(super) fn of_struct(
        ident: &Ident,
        attributes: &[Attribute],
        fields: &Fields,
        event: &Attributes,
        errors: &mut Errors,
    ) -> Self {
        let container = SerdeAttributes::of(attributes);
        let default = default_name(&ident.unraw().to_string(), event.of_kind.version);
        let types = json_types(fields);
        // What is said of the whole type decides on all of its fields.
        let form = representation(attributes).into_iter().map(|form| ("serde".to_owned(), form));
        let shape = (form.chain(json_fields(fields, &container)).collect(), types);
        Self::new(default, ident.span(), &event.of_kind, shape, None, errors)
    }

    /// The kind of a variant; takes this macro's attributes off it.
    pub(super) fn of_variant(
        variant: &mut Variant,
        container: &SerdeAttributes,
        errors: &mut Errors,
    ) -> Self {
        let (own, others): (Vec<_>, Vec<_>) = std::mem::take(&mut variant.attrs)
            .into_iter()
            .partition(|attribute| attribute.path().is_ident("event"));
        variant.attrs = others;
        let mut tokens = proc_macro2::TokenStream::new();
        for attribute in &own {
            match &attribute.meta {
                syn::Meta::List(list) => append(&mut tokens, list.tokens.clone()),
                _ => errors.on(
                    attribute,
                    "a variant is an event already; write `#[event(name = \"…\")]`, or nothing",
                ),
            }
        }
        let attributes = KindAttributes::of_variant(tokens, errors);
        refuse_representation(&variant.attrs, true, errors);
        refuse_conditions(&mut variant.attrs, &mut variant.fields, errors);
        let ident = variant.ident.clone();
        let default = default_name(&ident.unraw().to_string(), attributes.version);
        let shape = (json_fields_of_variant(variant, container), json_types(&variant.fields));
        Self::new(default, ident.span(), &attributes, shape, Some(ident), errors)
    }

    fn new(
        default: String,
        at: Span,
        attributes: &KindAttributes,
        (fields, types): (Vec<(String, String)>, Vec<Type>),
        variant: Option<Ident>,
        errors: &mut Errors,
    ) -> Self {
        let (name, name_at) = attributes.name.clone().unwrap_or((default, at));
        for (index, (alias, at)) in attributes.aliases.iter().enumerate() {
            if *alias == name || attributes.aliases[..index].iter().any(|(other, _)| other == alias) {
                errors.at(*at, format!("events stored as `{alias}` are found already: remove this alias"));
            }
        }
        Self {
            name,
            name_at,
            version: attributes.version,
            previous: attributes.previous.clone(),
            aliases: attributes.aliases.iter().map(|(alias, _)| alias.clone()).collect(),
            fields,
            types,
            variant,
        }
    }

    /// An event of version 2 whose `previous` is the type that it replaces, of the same name.
    pub(super) fn refuse_itself_as_previous(&mut self, ident: &Ident, errors: &mut Errors) {
        let itself = |previous: &Type| match previous {
            Type::Path(previous) => previous.path.is_ident(ident) || previous.path.is_ident("Self"),
            _ => false,
        };
        if self.previous.as_ref().is_some_and(itself)
            && let Some(previous) = self.previous.take()
        {
            errors.on(
                &previous,
                format!(
                    "`{ident}` cannot be its own previous version: keep the old one beside it as a struct of \
                     its own, `#[event] struct {0}V{1}`, and write `previous = {0}V{1}`",
                    self.variant.as_ref().unwrap_or(ident).unraw(),
                    self.version - 1,
                ),
            );
        }
    }
}

/// The stored name of an item that gives none: its own, less a `V<n>` at its end that repeats the version.
///
/// So that the old version of an event keeps its stored name when its struct makes way for the new one.
fn default_name(ident: &str, version: u32) -> String {
    match ident.strip_suffix(&format!("V{version}")) {
        Some(stem) if !stem.is_empty() => stem.to_owned(),
        _ => ident.to_owned(),
    }
}

/// The stored form of a family is settled: attributes of serde that change it are refused.
pub(super) fn refuse_representation(attributes: &[Attribute], of_variant: bool, errors: &mut Errors) {
    let serde = SerdeAttributes::of(attributes);
    for key in serde.representation {
        // On a variant it is about the names of the fields.
        if of_variant && key == "rename_all" {
            continue;
        }
        errors.at(
            key.span(),
            format!(
                "`#[serde({key} …)]` would change how a family of events is stored, which `#[event]` settles: \
                 remove it, and write `#[event(name = \"…\")]` on a variant to choose its stored name"
            ),
        );
    }
    if serde.skipped {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            errors.on(
                attribute,
                "an event cannot be skipped: every variant of a family is stored; remove the attribute, or the variant",
            );
        }
    }
}

/// One build may read what another one stored: attributes that take parts out of some builds are refused, and
/// taken off.
pub(super) fn refuse_conditions(attributes: &mut Vec<Attribute>, fields: &mut Fields, errors: &mut Errors) {
    let of_fields = fields.iter_mut().map(|field| (&mut field.attrs, "a field of an event"));
    for (attributes, what) in std::iter::once((attributes, "a variant of a family")).chain(of_fields) {
        attributes.retain(|attribute| {
            let conditional = attribute.path().is_ident("cfg");
            if conditional {
                errors.on(
                    attribute,
                    format!(
                        "{what} cannot depend on how the code is built: another build would not read \
                         what this one stored; remove the `#[cfg(…)]`"
                    ),
                );
            }
            !conditional
        });
    }
}

/// Two variants cannot have one stored name.
pub(super) fn refuse_shared_names(kinds: &[Kind], errors: &mut Errors) {
    for (index, kind) in kinds.iter().enumerate() {
        let names =
            |kind: &Kind| std::iter::once(&kind.name).chain(&kind.aliases).cloned().collect::<Vec<_>>();
        let shared = kinds[..index].iter().flat_map(names).find(|name| names(kind).contains(name));
        if let Some(name) = shared {
            errors.at(
                kind.name_at,
                format!(
                    "two events of this family have the stored name `{name}`: a stored name belongs to one event, \
                     so write `#[event(name = \"…\")]` on one of them"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::default_name;

    #[test]
    fn a_suffix_that_repeats_the_version_is_no_part_of_the_name() {
        assert_eq!(default_name("OrderCancelledV1", 1), "OrderCancelled");
        assert_eq!(default_name("OrderCancelledV12", 12), "OrderCancelled");
        assert_eq!(default_name("PlanV2", 1), "PlanV2");
        assert_eq!(default_name("OrderCancelledV1", 2), "OrderCancelledV1");
        assert_eq!(default_name("V1", 1), "V1");
    }
}
