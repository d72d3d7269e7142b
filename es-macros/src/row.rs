//! `#[derive(Row)]`: the key of a row, and its places in indexes.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Path, Token, Type, parenthesized, parse_quote};

use crate::support::derive::{Helper, refuse_generics, valid_name};
use crate::support::errors::Errors;
use crate::support::grammar::Grammar;
use crate::support::personal::{self, Owner, PersonalField};
use crate::support::spans::{Place, implementation};

static ROW: Helper = Helper {
    name: "row",
    example: "name = \"…\", key = …",
    grammar: Grammar {
        attribute: "`#[row(…)]`",
        keys: &[
            ("name", "name = \"orders\""),
            ("key", "key = order_id"),
            ("index", "index(by_customer(customer, placed_at))"),
            ("crate", "crate = ::path::to::es_core"),
        ],
        repeatable: &["index"],
        elsewhere: &[],
    },
};

/// The maximum number of fields of an index: the group, and seven order fields.
const MAX_FIELDS: usize = 8;

/// An index: its name, the field that groups its rows, and the fields that order them.
struct Index {
    name: Ident,
    fields: Vec<Ident>,
}

impl Parse for Index {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name: Ident = input.parse()?;
        let mut fields = Punctuated::<Ident, Token![,]>::new();
        if input.peek(syn::token::Paren) {
            let content;
            parenthesized!(content in input);
            fields = Punctuated::parse_terminated(&content)?;
        }
        if fields.is_empty() {
            return Err(syn::Error::new(name.span(), "an index has at least one field"));
        }
        Ok(Self { name, fields: fields.into_iter().collect() })
    }
}

struct Attributes {
    core: Path,
    name: String,
    key: Ident,
    indexes: Vec<Index>,
    personal: Vec<PersonalField>,
}

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let Some(item) = errors.keep(syn::parse2::<DeriveInput>(item)) else { return errors.finish() };
    refuse_generics(
        "row",
        &item,
        "all rows of a read model have one type: write a separate struct for each case",
        &mut errors,
    );
    let attributes = read(&item, &mut errors);
    let is_valid = errors.is_empty();
    let mut output = errors.finish();
    if let Some(attributes) = attributes.filter(|_| is_valid) {
        output.extend(implement(&item, &attributes));
    }
    output
}

/// Reads the attribute. Returns `None` after reporting that a required key is missing.
fn read(item: &DeriveInput, errors: &mut Errors) -> Option<Attributes> {
    let keys = ROW.read(item, errors)?;
    let required = [("name", "under which its rows are stored"), ("key", "the field that identifies it")];
    ROW.require(&keys, &required, item, errors);
    let name = keys.get("name").and_then(|entry| entry.text(errors));
    let name = name.map(|name| valid_name(&name, "a row", errors));
    let key = keys.get("key").and_then(|entry| entry.ident(errors));
    let indexes = keys.all("index").filter_map(|entry| entry.list::<Index>(errors)).flatten();
    let indexes: Vec<Index> = indexes.collect();
    check_fields(item, key.iter().chain(indexes.iter().flat_map(|index| &index.fields)), errors);
    check_indexes(&indexes, errors);
    let personal = match &item.data {
        Data::Struct(data) => personal::read(&mut data.fields.clone(), Owner::Row, errors),
        Data::Enum(_) | Data::Union(_) => Vec::new(),
    };
    let placed = key.iter().chain(indexes.iter().flat_map(|index| &index.fields));
    for field in placed.filter(|field| personal.iter().any(|personal| personal.name == **field)) {
        errors.at(
            field.span(),
            format!("the personal field `{field}` cannot be in a key or an index, which are stored in plain text: use another field"),
        );
    }
    Some(Attributes { core: keys.core(errors), name: name?, key: key?, indexes, personal })
}

/// Reports fields that the row does not have.
fn check_fields<'a>(item: &DeriveInput, used: impl Iterator<Item = &'a Ident>, errors: &mut Errors) {
    let fields: Vec<&Ident> = match &item.data {
        Data::Struct(data) => data.fields.iter().filter_map(|field| field.ident.as_ref()).collect(),
        Data::Enum(_) | Data::Union(_) => Vec::new(),
    };
    if fields.is_empty() {
        errors.on(
            &item.ident,
            format!("the row `{}` must be a struct with named fields, one of which is its key", item.ident),
        );
        return;
    }
    let known = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
    for field in used.filter(|field| !fields.contains(field)) {
        errors.at(field.span(), format!("`{}` has no field `{field}`: its fields are {known}", item.ident));
    }
}

/// Reports indexes with too many fields, and names that are too long or given twice. Names that differ only in case
/// have the same constant.
fn check_indexes(indexes: &[Index], errors: &mut Errors) {
    for (position, Index { name, fields }) in indexes.iter().enumerate() {
        if let Some(excess) = fields.get(MAX_FIELDS) {
            errors.at(
                excess.span(),
                format!(
                    "the index `{name}` has more than {MAX_FIELDS} fields: remove this field and all after it"
                ),
            );
        }
        if name.to_string().len() > 100 {
            errors.at(name.span(), "the name of an index cannot be longer than 100 bytes: shorten it");
        }
        if indexes[..position].iter().any(|other| constant_name(&other.name) == constant_name(name)) {
            errors.at(name.span(), format!("the index `{name}` is defined twice: rename one"));
        }
    }
}

/// Returns the name of an index's constant.
fn constant_name(name: &Ident) -> String {
    name.unraw().to_string().to_uppercase()
}

/// Generates the constant of an index, by which queries name it.
fn constant(core: &Path, item: &DeriveInput, number: usize, index: &Index) -> TokenStream {
    let Index { name, fields } = index;
    let (visibility, ident) = (&item.vis, &item.ident);
    let constant = Ident::new(&constant_name(name), name.span());
    let group = fields.first().map(|field| type_of(item, field));
    let order = fields.iter().skip(1).rev().fold(quote!(()), |rest, field| {
        let ty = type_of(item, field);
        quote!((#ty, #rest))
    });
    let doc = match fields.split_first() {
        Some((group, [])) => format!("The index `{name}`: rows by `{group}`."),
        Some((group, order)) => {
            let order: Vec<_> = order.iter().map(|field| format!("`{field}`")).collect();
            format!("The index `{name}`: rows by `{group}`, ordered by {}.", order.join(", "))
        }
        None => String::new(),
    };
    quote! {
        #[doc = #doc]
        #[allow(dead_code, private_interfaces)]
        #visibility const #constant: #core::__private::RowIndex<#ident, #group, #order> = #core::__private::RowIndex::new(#number);
    }
}

fn implement(item: &DeriveInput, attributes: &Attributes) -> TokenStream {
    let Attributes { core, name, key, indexes, personal } = attributes;
    let ident = &item.ident;
    let constants = indexes.iter().enumerate().map(|(number, index)| constant(core, item, number, index));
    let key_type = type_of(item, key);
    let names = indexes.iter().map(|index| index.name.unraw().to_string());
    let places = indexes.iter().enumerate().map(|(number, index)| {
        let fields = &index.fields;
        quote! {
            #core::__private::index_place(#name, KINDS.of_index(#number), &[#(&self.#fields),*])?
        }
    });
    let key_kind = kind_of(core, item, key);
    let index_kinds = indexes.iter().map(|index| {
        let kinds = index.fields.iter().map(|field| kind_of(core, item, field));
        quote!(#core::__private::vec_of([#(#kinds),*]))
    });
    let mut fields: Vec<&Ident> = vec![key];
    fields.extend(indexes.iter().flat_map(|index| &index.fields));
    let mut checked = Vec::new();
    fields.retain(|field| {
        let is_new = !checked.contains(*field);
        checked.push((*field).clone());
        is_new
    });
    let orders = fields.into_iter().map(|field| require_key(core, item, field));
    let header = implementation(core, "Row", ident);
    let bind = (!personal.is_empty()).then(|| {
        let bind = personal::bind(core, Owner::Row, name, personal, |field| quote!(&self.#field));
        quote! {
            fn bind_personal(&self) -> #core::__private::Result<(), #core::__private::ReadModelError> {
                #bind
                #core::__private::Result::Ok(())
            }
        }
    });
    quote! {
        const _: () = {
            #[allow(unused_imports)] // the types decide which of them are used
            use #core::__private::{KnownKind as _, NoOrder as _, SomeOrder as _, UnknownKind as _};

            static KINDS: #core::__private::LazyLock<#core::__private::RowKinds> =
                #core::__private::LazyLock::new(|| {
                    let indexes = #core::__private::vec_of([#(#index_kinds),*]);
                    #core::__private::RowKinds::new(#key_kind, indexes)
                });

            #[automatically_derived]
            impl #ident {
                #(#constants)*
            }

            #[automatically_derived]
            #header {
                type Key = #key_type;
                const NAME: &'static #core::__private::str = #name;
                const INDEXES: &'static [&'static #core::__private::str] = &[#(#names),*];

                fn key(&self) -> #core::__private::Result<#core::__private::String, #core::__private::ReadModelError> {
                    #core::__private::key_text::<#key_type>(#name, KINDS.key(), &self.#key)
                }

                fn places(
                    &self,
                ) -> #core::__private::Result<#core::__private::Vec<#core::__private::IndexPlace>, #core::__private::ReadModelError> {
                    #core::__private::Result::Ok(#core::__private::vec_of([#(#places),*]))
                }

                fn kinds() -> &'static #core::__private::RowKinds {
                    &KINDS
                }

                #bind
            }

            const _: fn() = || {
                #(#orders)*
            };
        };
    }
}

/// Generates an expression: the kind of a field in a key.
fn kind_of(core: &Path, item: &DeriveInput, field: &Ident) -> TokenStream {
    let ty = type_of(item, field);
    quote!((&#core::__private::KeyProbe::<#ty>::new()).kind())
}

/// Generates a statement that does not compile when the field cannot be part of a key.
fn require_key(core: &Path, item: &DeriveInput, field: &Ident) -> TokenStream {
    let ty = type_of(item, field);
    let place = Place::of(&ty);
    let core_here = place.beginning(core);
    let require = quote_spanned!(place.start=> #core_here::__private::require_key::<#ty, _>);
    let arguments = place.arguments(quote!(&(&#core::__private::KeyProbe::<#ty>::new()).order()));
    quote!(#require #arguments;)
}

/// Returns the type of a field with its span.
fn type_of(item: &DeriveInput, field: &Ident) -> Type {
    let found = match &item.data {
        Data::Struct(data) => data.fields.iter().find(|other| other.ident.as_ref() == Some(field)),
        Data::Enum(_) | Data::Union(_) => None,
    };
    found.map_or_else(|| parse_quote!(_), |field| field.ty.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_long_names_of_indexes() {
        let expanded = |bytes| {
            let index = Ident::new(&"x".repeat(bytes), proc_macro2::Span::call_site());
            let attribute = quote!(#[row(name = "orders", key = id, index(#index(id)))]);
            expand(quote!(#attribute struct Order { id: u64 })).to_string()
        };
        let message = "the name of an index cannot be longer than 100 bytes";
        assert!(!expanded(100).contains(message));
        assert!(expanded(101).contains(message));
    }
}
