//! `#[derive(Schema)]`: the shape of a type that events contain.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Path, Type};

use crate::support::derive::append;
use crate::support::errors::Errors;
use crate::support::grammar::Grammar;
use crate::support::serde::{
    SerdeAttributes, describe, json_fields, json_fields_of_variant, json_types, representation,
    with_attributes,
};

static GRAMMAR: Grammar = Grammar::new("`#[schema(…)]`", &[("crate", "crate = ::path::to::es_core")]);

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let Some(item) = errors.keep(syn::parse2::<DeriveInput>(item)) else { return errors.finish() };
    let core = core_of(&item, &mut errors);
    let (parts, types) = parts(&item, &mut errors);
    let implementation = implementation(&item, &core, &parts, &types);
    let errors = errors.finish();
    quote!(#implementation #errors)
}

/// Reads `#[schema(crate = path)]`, which is optional.
fn core_of(item: &DeriveInput, errors: &mut Errors) -> Path {
    let mut tokens = TokenStream::new();
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("schema")) {
        if let Some(list) = errors.keep(attribute.meta.require_list()) {
            append(&mut tokens, list.tokens.clone());
        }
    }
    GRAMMAR.parse(tokens, errors).core(errors)
}

/// Returns the names and shapes of the fields or variants, and the types in them.
fn parts(item: &DeriveInput, errors: &mut Errors) -> (Vec<(String, String)>, Vec<Type>) {
    let container = SerdeAttributes::of(&item.attrs);
    let mut parts: Vec<_> =
        representation(&item.attrs).into_iter().map(|form| ("serde".to_owned(), form)).collect();
    let mut types = Vec::new();
    match &item.data {
        Data::Struct(data) => {
            parts.extend(json_fields(&data.fields, &container));
            types = json_types(&data.fields);
        }
        Data::Enum(data) => {
            for variant in &data.variants {
                let fields = json_fields_of_variant(variant, &container);
                let fields: Vec<_> = fields.iter().map(|(name, ty)| format!("{name}: {ty}")).collect();
                let own = SerdeAttributes::of(&variant.attrs);
                let name = own.rename.unwrap_or_else(|| variant.ident.unraw().to_string());
                let form: TokenStream = syn::parse_quote!(_);
                let attributes = with_attributes(&form, &variant.attrs);
                let attributes = attributes.strip_prefix('_').unwrap_or_default();
                parts.push((name, format!("{{{}}}{attributes}", fields.join(", "))));
                types.extend(json_types(&variant.fields));
            }
        }
        Data::Union(_) => errors.on(&item.ident, "a union cannot have a schema: use a struct or an enum"),
    }
    (parts, types)
}

fn implementation(
    item: &DeriveInput,
    core: &Path,
    parts: &[(String, String)],
    types: &[Type],
) -> TokenStream {
    let ident = &item.ident;
    let name = ident.unraw().to_string();
    let (generics, arguments, conditions) = item.generics.split_for_impl();
    let parts = parts.iter().map(|(name, ty)| quote!(#core::__private::Field::new(#name, #ty)));
    let describe = describe(core, types);
    quote! {
        #[automatically_derived]
        impl #generics #core::Schema for #ident #arguments #conditions {
            fn describe(types: &mut #core::__private::Types) {
                const PARTS: &[#core::__private::Field] = &[#(#parts),*];
                if types.add(#name, PARTS) {
                    #describe
                }
            }
        }
    }
}
