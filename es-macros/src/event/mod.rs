//! `#[event]`: from an item to an implementation of `Event`.

mod attributes;
mod expand;
mod kind;

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput};

use crate::errors::Errors;
use crate::shape::SerdeAttributes;
use attributes::Attributes;
use kind::Kind;

/// An item that is read, and what goes with it.
struct Event {
    /// The item as it will be emitted: without the attributes of this macro.
    item: DeriveInput,
    attributes: Attributes,
    kinds: Vec<Kind>,
    /// Whether the type itself can be an event; if not, only the item is emitted, with its derives.
    sound: bool,
}

pub(crate) fn expand(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let parsed = syn::parse2::<DeriveInput>(item.clone());
    let Ok(input) = parsed else {
        errors.at(
            proc_macro2::Span::call_site(),
            "`#[event]` goes on a struct (one event) or on an enum (a family of events)",
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
    let mut sound = true;
    if !item.generics.params.is_empty() {
        errors.on(
            &item.generics,
            format!(
                "the event `{}` cannot be generic: what is stored has one shape and owns its data; \
                 write a struct of its own for each case, and `String` for `&str`",
                item.ident
            ),
        );
        sound = false;
    }
    let is_enum = matches!(item.data, Data::Enum(_));
    let attributes = Attributes::read(arguments, is_enum, errors);
    refuse_second_attribute(&mut item, errors);
    let mut kinds = match &mut item.data {
        Data::Struct(data) => {
            kind::refuse_conditions(&mut Vec::new(), &mut data.fields, errors);
            vec![Kind::of_struct(&item.ident, &item.attrs, &data.fields, &attributes, errors)]
        }
        Data::Enum(data) => {
            if data.variants.is_empty() {
                errors.on(
                    &item.ident,
                    format!("the event family `{}` has no events: add a variant for each", item.ident),
                );
            }
            kind::refuse_representation(&item.attrs, false, errors);
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
                format!("the event `{}` cannot be a union: write a struct or an enum", item.ident),
            );
            sound = false;
            Vec::new()
        }
    };
    for kind in &mut kinds {
        kind.refuse_itself_as_previous(&item.ident, errors);
    }
    Event { item, attributes, kinds, sound }
}

/// All that there is to say goes into one attribute; a second one would generate everything again.
fn refuse_second_attribute(item: &mut DeriveInput, errors: &mut Errors) {
    item.attrs.retain(|attribute| {
        let second = attribute.path().segments.last().is_some_and(|segment| segment.ident == "event");
        if second {
            errors.on(attribute, "`#[event]` is written twice: put all keys into one `#[event(…)]`");
        }
        !second
    });
}
