//! `#[derive(Aggregate)]`: from a state to an implementation of `Aggregate`.
//!
//! `attributes` reads the keys, with the list of events in `events`. `expand` generates the implementation, and
//! `event_enum` the enum of the events.

mod attributes;
mod event_enum;
mod events;
mod expand;
mod fingerprint;

use proc_macro2::TokenStream;
use syn::{Attribute, Data, DeriveInput, Field};

use crate::support::derive::refuse_generics;
use crate::support::errors::Errors;
use crate::support::personal::is_personal;
use crate::support::spans::{lists, lists_all};
use attributes::Attributes;

/// The trait that marks the events of an aggregate.
const LISTS: &str = "AggregateLists";

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let Some(item) = errors.keep(syn::parse2::<DeriveInput>(item)) else { return errors.finish() };
    refuse_generics(
        "aggregate",
        &item,
        "its name and its events belong to one type: write a separate struct for each case, and use `String` \
         instead of `&str`",
        &mut errors,
    );
    if let Data::Union(data) = &item.data {
        errors.on(
            &data.union_token,
            format!("the aggregate `{}` cannot be a union: use a struct or an enum", item.ident),
        );
    }
    let is_expandable = errors.is_empty();
    for attribute in attributes_of_fields(&item.data).filter(|attribute| is_personal(attribute)) {
        errors.on(
            attribute,
            "a state needs no `#[personal(…)]`, because its personal values are from events, and know their subjects: remove it",
        );
    }
    let attributes = Attributes::read(&item, &mut errors);
    let is_valid = errors.is_empty();
    let mut output = errors.finish();
    // An aggregate with mistakes is still generated, so that they are not reported again wherever it is used.
    if is_expandable {
        output.extend(expand::expand(&item, &attributes));
    }
    output.extend(match is_valid {
        true => lists(&attributes.core, LISTS, &item.ident, &attributes.events.paths()),
        false => lists_all(&attributes.core, LISTS, &item),
    });
    output
}

/// Returns the attributes of all fields.
fn attributes_of_fields(data: &Data) -> impl Iterator<Item = &Attribute> {
    let fields: Vec<&Field> = match data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(_) => Vec::new(),
    };
    fields.into_iter().flat_map(|field| &field.attrs)
}
