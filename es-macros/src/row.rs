//! `#[derive(Row)]`: the key of a row, and its places in indexes.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Fields, Meta, Path, Token, parenthesized, parse_quote};

use crate::errors::Errors;
use crate::keys::{Grammar, append};

const GRAMMAR: Grammar = Grammar {
    attribute: "#[row(…)]",
    keys: &[
        ("name", "name = \"orders\""),
        ("key", "key = order_id"),
        ("index", "index(by_customer(customer, placed_at))"),
        ("crate", "crate = ::path::to::es_core"),
    ],
    repeatable: &["index"],
    elsewhere: &[],
};

/// An index: its name, the field it groups by, and those it orders by.
struct Index {
    name: Ident,
    fields: Vec<Ident>,
}

impl syn::parse::Parse for Index {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.parse()?;
        if !input.peek(syn::token::Paren) {
            return Err(syn::Error::new(name.span(), "the fields are missing"));
        }
        let content;
        parenthesized!(content in input);
        let fields = Punctuated::<Ident, Token![,]>::parse_terminated(&content)?;
        if fields.is_empty() {
            let message =
                format!("the index `{name}` needs the field that it groups by: write `{name}(customer)`");
            return Err(syn::Error::new(name.span(), message));
        }
        Ok(Self { name, fields: fields.into_iter().collect() })
    }
}

struct Attributes {
    core: Path,
    name: Option<String>,
    key: Option<Ident>,
    indexes: Vec<Index>,
}

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let item: DeriveInput = match syn::parse2(item) {
        Ok(item) => item,
        Err(error) => return error.to_compile_error(),
    };
    let mut errors = Errors::new();
    if !item.generics.params.is_empty() {
        errors.on(
            &item.generics,
            format!("the row `{}` cannot be generic: all rows of one name have one type", item.ident),
        );
    }
    let attributes = read(&item, &mut errors);
    check_fields(&item, &attributes, &mut errors);
    let sound = errors.is_empty();
    let mut output = errors.finish();
    if let (true, Some(name), Some(key)) = (sound, &attributes.name, &attributes.key) {
        output.extend(implementation(&item, &attributes, name, key));
    }
    output
}

fn read(item: &DeriveInput, errors: &mut Errors) -> Attributes {
    let mut attributes =
        Attributes { core: parse_quote!(::es_core), name: None, key: None, indexes: Vec::new() };
    let mut tokens = TokenStream::new();
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("row")) {
        if let Meta::List(list) = &attribute.meta {
            append(&mut tokens, list.tokens.clone());
        }
    }
    let mut given = Vec::new();
    for entry in GRAMMAR.parse(tokens, errors) {
        given.push(entry.key.to_string());
        match entry.key.to_string().as_str() {
            "name" => attributes.name = entry.text(&GRAMMAR, errors).map(|name| valid_name(&name, errors)),
            "key" => attributes.key = entry.ident(&GRAMMAR, errors),
            "index" => attributes.indexes.extend(entry.list::<Index>(&GRAMMAR, errors).unwrap_or_default()),
            _ => {
                if let Some(core) = entry.path(&GRAMMAR, errors) {
                    attributes.core = core;
                }
            }
        }
    }
    for (key, what) in [("name", "under which it is stored"), ("key", "the field that identifies it")] {
        if !given.iter().any(|given| given == key) {
            errors.on(
                &item.ident,
                format!(
                    "the row `{}` has no `{key}`, {what}: write `#[row(name = \"…\", key = …)]` below the derive",
                    item.ident
                ),
            );
        }
    }
    attributes
}

fn valid_name(name: &syn::LitStr, errors: &mut Errors) -> String {
    let text = name.value();
    if text.is_empty() || text.contains('#') || text.len() > 100 {
        errors.at(
            name.span(),
            "a row's name has 1 to 100 bytes, and no `#`: write one as in `name = \"orders\"`",
        );
    }
    text
}

/// Whether the fields are there.
fn check_fields(item: &DeriveInput, attributes: &Attributes, errors: &mut Errors) {
    let fields = match &item.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => fields.named.iter().filter_map(|field| field.ident.clone()).collect(),
            Fields::Unnamed(_) | Fields::Unit => Vec::new(),
        },
        Data::Enum(_) | Data::Union(_) => Vec::new(),
    };
    if fields.is_empty() {
        errors.on(
            &item.ident,
            format!(
                "the row `{}` has no named fields: make it a struct with a field for its key",
                item.ident
            ),
        );
        return;
    }
    let known = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
    let used = attributes.key.iter().chain(attributes.indexes.iter().flat_map(|index| &index.fields));
    for field in used.filter(|field| !fields.contains(field)) {
        errors.at(field.span(), format!("`{}` has no field `{field}`; it has {known}", item.ident));
    }
    for (place, index) in attributes.indexes.iter().enumerate() {
        if attributes.indexes[..place].iter().any(|other| other.name == index.name) {
            errors.at(
                index.name.span(),
                format!("the index `{}` is there twice: rename one of them", index.name),
            );
        }
    }
}

fn implementation(item: &DeriveInput, attributes: &Attributes, name: &str, key: &Ident) -> TokenStream {
    let core = &attributes.core;
    let ident = &item.ident;
    let key = text_of(core, name, item, key);
    let names = attributes.indexes.iter().map(|index| index.name.to_string());
    let places = attributes.indexes.iter().map(|index| {
        let group = text_of(core, name, item, &index.fields[0]);
        let order = &index.fields[1..];
        quote! {
            #core::IndexPlace::new(
                #group?,
                #core::__private::key_texts(#name, &[#(&self.#order),*])?,
            )
        }
    });
    quote! {
        #[automatically_derived]
        impl #core::Row for #ident {
            const NAME: &'static #core::__private::str = #name;
            const INDEXES: &'static [&'static #core::__private::str] = &[#(#names),*];

            fn key(&self) -> #core::__private::Result<#core::__private::String, #core::ReadModelError> {
                #key
            }

            fn places(
                &self,
            ) -> #core::__private::Result<#core::__private::Vec<#core::IndexPlace>, #core::ReadModelError> {
                #core::__private::Result::Ok(#core::__private::Vec::from([#(#places),*]))
            }
        }
    }
}

/// The text of a field in a key. With the type, so that one that has none is underlined where it stands.
fn text_of(core: &Path, row: &str, item: &DeriveInput, field: &Ident) -> TokenStream {
    let ty = match &item.data {
        Data::Struct(data) => data.fields.iter().find(|other| other.ident.as_ref() == Some(field)),
        Data::Enum(_) | Data::Union(_) => None,
    };
    let ty: syn::Type = ty.map_or_else(|| parse_quote!(_), |field| field.ty.clone());
    quote!(#core::__private::key_text::<#ty>(#row, &self.#field))
}
