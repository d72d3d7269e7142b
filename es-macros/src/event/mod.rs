//! `#[event]`: from an item to an implementation of `Event`.
//!
//! `attributes` reads the keys, `kind` combines them with a struct or a variant, with its
//! `personal` fields, and `expand` generates the code.

mod attributes;
mod expand;
mod kind;

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput};

use crate::support::derive::refuse_generics;
use crate::support::errors::Errors;
use crate::support::serde::SerdeAttributes;
use attributes::Attributes;
use kind::Kind;

/// An item with its attributes.
struct Event {
    /// The item as it is emitted: without the attributes of this macro.
    item: DeriveInput,
    attributes: Attributes,
    kinds: Vec<Kind>,
    /// Whether the type can be an event. If not, only the item with its derives is emitted.
    is_valid: bool,
}

pub(crate) fn expand(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let parsed = syn::parse2::<DeriveInput>(item.clone());
    let Ok(input) = parsed else {
        errors.at(
            proc_macro2::Span::call_site(),
            "`#[event]` requires a struct (one event) or an enum (a family of events)",
        );
        let errors = errors.finish();
        return quote!(#errors #item);
    };
    let event = read(arguments, input, &mut errors);
    let expansion = expand::expand(&event);
    let errors = errors.finish();
    quote!(#errors #expansion)
}

fn read(arguments: TokenStream, mut item: DeriveInput, errors: &mut Errors) -> Event {
    refuse_generics(
        "event",
        &item,
        "stored events have one shape and own their data: write a separate struct for each case, and use `String` \
         instead of `&str`",
        errors,
    );
    let mut is_valid = errors.is_empty();
    let is_enum = matches!(item.data, Data::Enum(_));
    let attributes = Attributes::read(arguments, is_enum, errors);
    refuse_second_attribute(&mut item, errors);
    let mut kinds = match &mut item.data {
        Data::Struct(data) => {
            kind::refuse_conditions(&mut Vec::new(), &mut data.fields, errors);
            vec![Kind::of_struct(&item.ident, &item.attrs, &mut data.fields, &attributes, errors)]
        }
        Data::Enum(data) => {
            if data.variants.is_empty() {
                errors.on(
                    &item.ident,
                    format!("the event family `{}` has no events: add a variant for each", item.ident),
                );
            }
            kind::refuse_representation(&item.attrs, &[], errors);
            let container = SerdeAttributes::of(&item.attrs);
            let kinds: Vec<_> = data
                .variants
                .iter_mut()
                .map(|variant| Kind::of_variant(variant, &container, errors))
                .collect();
            kind::refuse_shared_names(&kinds, errors);
            kinds
        }
        Data::Union(data) => {
            errors.at(
                data.union_token.span(),
                format!("the event `{}` cannot be a union: use a struct or an enum", item.ident),
            );
            is_valid = false;
            Vec::new()
        }
    };
    for kind in &mut kinds {
        kind.refuse_itself_as_previous(&item.ident, errors);
    }
    Event { item, attributes, kinds, is_valid }
}

/// Reports a second `#[event]`, which would generate the same code again.
fn refuse_second_attribute(item: &mut DeriveInput, errors: &mut Errors) {
    item.attrs.retain(|attribute| {
        let is_second = attribute.path().segments.last().is_some_and(|segment| segment.ident == "event");
        if is_second {
            errors.on(attribute, "`#[event]` is given twice: put all keys into one `#[event(…)]`");
        }
        !is_second
    });
}
