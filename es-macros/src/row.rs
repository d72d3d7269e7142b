//! `#[derive(Row)]`: the key of a row, and its places in indexes.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Fields, Meta, Path, Token, Type, parenthesized, parse_quote};

use crate::errors::Errors;
use crate::keys::{Grammar, append};
use crate::spans::Place;

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
        if name.to_string().len() > 100 {
            return Err(syn::Error::new(name.span(), "the name of an index has at most 100 bytes"));
        }
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
    let key_type = type_of(item, key);
    let names = attributes.indexes.iter().map(|index| index.name.to_string());
    let places = attributes.indexes.iter().enumerate().map(|(number, index)| {
        let fields = &index.fields;
        quote! {
            #core::__private::index_place(#name, KINDS.of_index(#number), &[#(&self.#fields),*])?
        }
    });
    let key_kind = kind_of(core, item, key);
    let index_kinds = attributes.indexes.iter().map(|index| {
        let kinds = index.fields.iter().map(|field| kind_of(core, item, field));
        quote!(#core::__private::Vec::from([#(#kinds),*]))
    });
    let mut fields: Vec<&Ident> = vec![key];
    fields.extend(attributes.indexes.iter().flat_map(|index| &index.fields));
    let mut checked = Vec::new();
    fields.retain(|field| {
        let is_new = !checked.contains(*field);
        checked.push((*field).clone());
        is_new
    });
    let orders = fields.into_iter().map(|field| has_order(core, item, field));
    quote! {
        const _: () = {
            #[allow(unused_imports)] // which of the two is used depends on the types
            use #core::__private::{KnownKind as _, NoOrder as _, SomeOrder as _, UnknownKind as _};

            static KINDS: #core::__private::LazyLock<#core::__private::RowKinds> =
                #core::__private::LazyLock::new(|| {
                    let indexes = #core::__private::Vec::from([#(#index_kinds),*]);
                    #core::__private::RowKinds::new(#key_kind, indexes)
                });

            #[automatically_derived]
            impl #core::Row for #ident {
                const NAME: &'static #core::__private::str = #name;
                const INDEXES: &'static [&'static #core::__private::str] = &[#(#names),*];

                fn key(&self) -> #core::__private::Result<#core::__private::String, #core::ReadModelError> {
                    #core::__private::key_text::<#key_type>(#name, KINDS.key(), &self.#key)
                }

                fn places(
                    &self,
                ) -> #core::__private::Result<#core::__private::Vec<#core::IndexPlace>, #core::ReadModelError> {
                    #core::__private::Result::Ok(#core::__private::Vec::from([#(#places),*]))
                }

                fn kinds() -> &'static #core::__private::RowKinds {
                    &KINDS
                }
            }

            const _: fn() = || {
                #(#orders)*
            };
        };
    }
}

/// The kind of a field in a key.
fn kind_of(core: &Path, item: &DeriveInput, field: &Ident) -> TokenStream {
    let ty = type_of(item, field);
    quote!((&#core::__private::KeyProbe::<#ty>::new()).kind())
}

/// A statement that stops the compilation when values of a field cannot be in a key, at its type.
fn has_order(core: &Path, item: &DeriveInput, field: &Ident) -> TokenStream {
    let ty = type_of(item, field);
    let place = Place::of(&ty);
    let core_here = place.beginning(core);
    let require = quote_spanned!(place.start=> #core_here::__private::require_key::<#ty, _>);
    let arguments = place.arguments(quote!(&(&#core::__private::KeyProbe::<#ty>::new()).order()));
    quote!(#require #arguments;)
}

/// The type of a field, so that one that cannot be in a key is underlined where it stands.
fn type_of(item: &DeriveInput, field: &Ident) -> Type {
    let found = match &item.data {
        Data::Struct(data) => data.fields.iter().find(|other| other.ident.as_ref() == Some(field)),
        Data::Enum(_) | Data::Union(_) => None,
    };
    found.map_or_else(|| parse_quote!(_), |field| field.ty.clone())
}
