//! One kind of event: a struct, or a variant of a family.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::{Attribute, Fields, Type, Variant};

use super::attributes::{Attributes, KindAttributes};
use crate::support::derive::append;
use crate::support::errors::Errors;
use crate::support::personal::{self, Owner, PersonalField};
use crate::support::serde::{
    SerdeAttributes, json_fields, json_fields_of_variant, json_types, representation,
};
use crate::support::tokens::ungrouped;

/// A kind of event with its attributes.
pub(super) struct Kind {
    pub(super) name: String,
    name_at: Span,
    pub(super) version: u32,
    pub(super) previous: Option<Type>,
    pub(super) aliases: Vec<String>,
    /// The names and types of the fields in JSON.
    pub(super) fields: Vec<(String, String)>,
    /// The types of these fields.
    pub(super) types: Vec<Type>,
    pub(super) personal: Vec<PersonalField>,
    /// The variant, if it is an event of a family.
    pub(super) variant: Option<Ident>,
}

impl Kind {
    pub(super) fn of_struct(
        ident: &Ident,
        attributes: &[Attribute],
        fields: &mut Fields,
        event: &Attributes,
        errors: &mut Errors,
    ) -> Self {
        let container = SerdeAttributes::of(attributes);
        let default = default_name(&ident.unraw().to_string(), event.of_kind.version);
        let types = json_types(fields);
        // The attributes of the type change the form of all fields.
        let form = representation(attributes).into_iter().map(|form| ("serde".to_owned(), form));
        let shape = (form.chain(json_fields(fields, &container)).collect(), types);
        let personal = personal::read(fields, Owner::Event, errors);
        Self { personal, ..Self::new(default, ident.span(), &event.of_kind, shape, None, errors) }
    }

    /// Reads a variant, and removes this macro's attributes from it.
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
                    "a variant is an event already: write `#[event(name = \"…\")]`, or remove the attribute",
                ),
            }
        }
        let attributes = KindAttributes::of_variant(tokens, errors);
        // On a variant, it changes only the names of the fields.
        refuse_representation(&variant.attrs, &["rename_all"], errors);
        refuse_conditions(&mut variant.attrs, &mut variant.fields, errors);
        let ident = variant.ident.clone();
        let default = default_name(&ident.unraw().to_string(), attributes.version);
        let shape = (json_fields_of_variant(variant, container), json_types(&variant.fields));
        let personal = personal::read(&mut variant.fields, Owner::Event, errors);
        Self { personal, ..Self::new(default, ident.span(), &attributes, shape, Some(ident), errors) }
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
                errors.at(
                    *at,
                    format!(
                        "redundant alias, because events stored as `{alias}` are read already: remove it"
                    ),
                );
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
            personal: Vec::new(),
            variant,
        }
    }

    /// Reports an event whose `previous` names its own type.
    pub(super) fn refuse_itself_as_previous(&mut self, ident: &Ident, errors: &mut Errors) {
        let itself = |previous: &Type| match ungrouped(previous) {
            Type::Path(previous) => previous.path.is_ident(ident) || previous.path.is_ident("Self"),
            _ => false,
        };
        if self.previous.as_ref().is_some_and(itself)
            && let Some(previous) = self.previous.take()
        {
            errors.on(
                &previous,
                format!(
                    "`{ident}` cannot be its own previous version: keep the old version as a separate struct, \
                     `#[event] struct {0}V{1}`, and write `previous = {0}V{1}`",
                    self.variant.as_ref().unwrap_or(ident).unraw(),
                    self.version - 1,
                ),
            );
        }
    }
}

/// Returns the default stored name: the item's name without a suffix `V<n>` that repeats the version.
///
/// The old version of an event then keeps its stored name when its struct is renamed.
fn default_name(ident: &str, version: u32) -> String {
    match ident.strip_suffix(&format!("V{version}")) {
        Some(stem) if !stem.is_empty() => stem.to_owned(),
        _ => ident.to_owned(),
    }
}

/// Reports serde attributes that would change the stored form of a family, except for the keys in `allowed`.
pub(super) fn refuse_representation(attributes: &[Attribute], allowed: &[&str], errors: &mut Errors) {
    let serde = SerdeAttributes::of(attributes);
    for key in serde.representation.into_iter().filter(|key| !allowed.iter().any(|allowed| key == allowed)) {
        errors.at(
            key.span(),
            format!(
                "`#[serde({key} …)]` would change the stored form of a family of events, which `#[event]` defines: \
                 remove it, and write `#[event(name = \"…\")]` on a variant to set its stored name"
            ),
        );
    }
    if serde.skipped {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            errors.on(
                attribute,
                "an event cannot be skipped, because every variant of a family is stored: remove the attribute or the \
                 variant",
            );
        }
    }
}

/// Reports and removes `#[cfg(…)]`: one build must be able to read the events that another one stored.
pub(super) fn refuse_conditions(attributes: &mut Vec<Attribute>, fields: &mut Fields, errors: &mut Errors) {
    let of_fields = fields.iter_mut().map(|field| (&mut field.attrs, "a field of an event"));
    for (attributes, what) in std::iter::once((attributes, "a variant of a family")).chain(of_fields) {
        attributes.retain(|attribute| {
            let conditional = attribute.path().is_ident("cfg");
            if conditional {
                errors.on(
                    attribute,
                    format!(
                        "{what} cannot have `#[cfg(…)]`, because another build could not read the stored events: \
                         remove it"
                    ),
                );
            }
            !conditional
        });
    }
}

/// Reports variants that share a stored name.
pub(super) fn refuse_shared_names(kinds: &[Kind], errors: &mut Errors) {
    for (index, kind) in kinds.iter().enumerate() {
        let names =
            |kind: &Kind| std::iter::once(&kind.name).chain(&kind.aliases).cloned().collect::<Vec<_>>();
        let shared = kinds[..index].iter().flat_map(names).find(|name| names(kind).contains(name));
        if let Some(name) = shared {
            errors.at(
                kind.name_at,
                format!(
                    "two events of this family have the stored name `{name}`: write `#[event(name = \"…\")]` with \
                     another name on one of them"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::default_name;

    #[test]
    fn drops_a_suffix_that_repeats_the_version() {
        assert_eq!(default_name("OrderCancelledV1", 1), "OrderCancelled");
        assert_eq!(default_name("OrderCancelledV12", 12), "OrderCancelled");
        assert_eq!(default_name("PlanV2", 1), "PlanV2");
        assert_eq!(default_name("OrderCancelledV1", 2), "OrderCancelledV1");
        assert_eq!(default_name("V1", 1), "V1");
    }
}
