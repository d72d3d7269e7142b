//! Personal fields: `#[personal(subject = …)]`.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, Fields, Meta, Path, PathSegment, Type};

use super::errors::Errors;
use super::grammar::Grammar;
use super::spans::Place;

static GRAMMAR: Grammar = Grammar::new("`#[personal(…)]`", &[("subject", "subject = customer")]);

/// The items with personal fields.
#[derive(Clone, Copy)]
pub(crate) enum Owner {
    Event,
    Row,
}

impl Owner {
    /// Returns the word for it in messages.
    fn word(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Row => "row",
        }
    }
}

/// A personal field, and the field that identifies its subject.
pub(crate) struct PersonalField {
    pub(crate) name: Ident,
    ty: Type,
    subject: Ident,
}

/// Reads the personal fields, and removes this macro's attributes from them.
pub(crate) fn read(fields: &mut Fields, owner: Owner, errors: &mut Errors) -> Vec<PersonalField> {
    let known: Vec<(Option<Ident>, bool)> =
        fields.iter().map(|field| (field.ident.clone(), mentions_personal(&field.ty))).collect();
    let mut found = Vec::new();
    for field in fields {
        let (own, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut field.attrs).into_iter().partition(is_personal);
        field.attrs = others;
        let Some(name) = &field.ident else {
            if let Some(attribute) = own.first() {
                errors.on(attribute, "personal data needs a named field: write the event with named fields");
            } else if mentions_personal(&field.ty) {
                errors.on(
                    &field.ty,
                    "personal data needs a subject, and therefore a named field: write the event with named fields, and \
                     `#[personal(subject = …)]`",
                );
            }
            continue;
        };
        let Some(attribute) = own.first() else {
            if mentions_personal(&field.ty) {
                errors.on(
                    &field.ty,
                    format!(
                        "the personal field `{name}` has no subject: write `#[personal(subject = …)]` above it, with the \
                         field that identifies the person"
                    ),
                );
            }
            continue;
        };
        if let Some(second) = own.get(1) {
            errors.on(second, "`#[personal(…)]` is given twice: remove one");
        }
        if let Some(subject) = subject(attribute, name, &known, owner, errors) {
            found.push(PersonalField { name: name.clone(), ty: field.ty.clone(), subject });
        }
    }
    found
}

/// Returns whether an attribute is `#[personal(…)]`.
pub(crate) fn is_personal(attribute: &Attribute) -> bool {
    attribute.path().is_ident("personal")
}

/// Returns the subject that an attribute names, if the item has such a field.
fn subject(
    attribute: &Attribute,
    name: &Ident,
    known: &[(Option<Ident>, bool)],
    owner: Owner,
    errors: &mut Errors,
) -> Option<Ident> {
    let Meta::List(list) = &attribute.meta else {
        errors.on(attribute, "`#[personal]` has no subject: write `#[personal(subject = customer)]`");
        return None;
    };
    let mistakes_before = errors.is_empty();
    let keys = GRAMMAR.parse(list.tokens.clone(), errors);
    let Some(entry) = keys.get("subject") else {
        if errors.is_empty() == mistakes_before {
            errors.on(attribute, "`#[personal(…)]` has no subject: write `#[personal(subject = customer)]`");
        }
        return None;
    };
    let subject = entry.ident(errors)?;
    let fields = known.iter().filter_map(|(field, personal)| Some((field.as_ref()?, *personal)));
    match fields.clone().find(|(field, _)| **field == subject) {
        Some((_, false)) => Some(subject),
        Some((_, true)) => {
            errors.at(
                subject.span(),
                format!(
                    "the subject `{subject}` is personal data itself, and is stored encrypted: use a field that identifies \
                     the person without personal data, such as a customer id"
                ),
            );
            None
        }
        None => {
            let others = fields.filter(|(field, personal)| !personal && *field != name);
            let others: Vec<_> = others.map(|(field, _)| format!("`{field}`")).collect();
            let advice = match others.is_empty() {
                true => "add a field that identifies the person".to_owned(),
                false => format!("the fields are {}", others.join(", ")),
            };
            errors.at(subject.span(), format!("the {} has no field `{subject}`: {advice}", owner.word()));
            None
        }
    }
}

/// Returns whether a type is written with `Personal`.
fn mentions_personal(ty: &Type) -> bool {
    struct Search(bool);
    impl<'ast> Visit<'ast> for Search {
        fn visit_path_segment(&mut self, segment: &'ast PathSegment) {
            self.0 |= segment.ident.unraw() == "Personal";
            syn::visit::visit_path_segment(self, segment);
        }
    }
    let mut search = Search(false);
    search.visit_type(ty);
    search.0
}

/// Generates statements that set the subjects before the item `stored_name` is encoded. `access` returns an expression
/// for a reference to a field.
pub(crate) fn bind(
    core: &Path,
    owner: Owner,
    stored_name: &str,
    fields: &[PersonalField],
    access: impl Fn(&Ident) -> TokenStream,
) -> TokenStream {
    let function = match owner {
        Owner::Event => quote!(bind_personal),
        Owner::Row => quote!(bind_personal_of_row),
    };
    let statements = fields.iter().map(|field| {
        let (value, subject) = (access(&field.name), access(&field.subject));
        let (name, ty) = (field.name.unraw().to_string(), &field.ty);
        let place = Place::of(ty);
        let core = place.beginning(core);
        let arguments = place.arguments(quote!(#stored_name, #name, #value, #subject));
        quote_spanned!(ty.span()=> #core::__private::#function::<#ty, _> #arguments?;)
    });
    quote!(#(#statements)*)
}

/// Returns the fields that `bind` needs, each once.
pub(crate) fn used(fields: &[PersonalField]) -> Vec<&Ident> {
    let mut used: Vec<&Ident> = Vec::new();
    for name in fields.iter().flat_map(|field| [&field.name, &field.subject]) {
        if !used.contains(&name) {
            used.push(name);
        }
    }
    used
}
