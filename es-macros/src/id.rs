//! `#[derive(Id)]`: the traits of a newtype that identifies aggregates.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Fields, Ident, Path, Type};

use crate::support::derive::{append, refuse_generics};
use crate::support::errors::Errors;
use crate::support::grammar::Grammar;
use crate::support::tokens::{text, ungrouped};

static GRAMMAR: Grammar = Grammar::new(
    "`#[id(…)]`",
    &[("skip_derive", "skip_derive(Debug)"), ("crate", "crate = ::path::to::es_core")],
);

/// The traits that can be left out.
const TRAITS: [&str; 11] = [
    "Clone",
    "Copy",
    "Debug",
    "Display",
    "Eq",
    "FromStr",
    "Hash",
    "Ord",
    "PartialEq",
    "PartialOrd",
    "Serialize",
];

/// What a newtype contains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    Text,
    Uuid,
    Integer,
}

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let Some(item) = errors.keep(syn::parse2::<DeriveInput>(item)) else { return errors.finish() };
    let is_generic = !item.generics.params.is_empty();
    refuse_generics(
        "id",
        &item,
        "it identifies the aggregates of one type: write one id for each",
        &mut errors,
    );
    let (core, skipped) = attributes(&item, &mut errors);
    let inner = if is_generic { None } else { inner(&item, &mut errors) };
    let errors = errors.finish();
    let expansion = inner.map(|(ty, inner)| {
        let implementations = implementations(&core, &item.ident, &ty, inner);
        let wanted = implementations.into_iter().filter(|(name, _)| !skipped.iter().any(|skip| skip == name));
        wanted.map(|(_, implementation)| implementation).collect::<TokenStream>()
    });
    quote!(#errors #expansion)
}

/// Reads `#[id(…)]`, which is optional.
fn attributes(item: &DeriveInput, errors: &mut Errors) -> (Path, Vec<String>) {
    let mut tokens = TokenStream::new();
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("id")) {
        if let Some(list) = errors.keep(attribute.meta.require_list()) {
            append(&mut tokens, list.tokens.clone());
        }
    }
    let keys = GRAMMAR.parse(tokens, errors);
    let skipped = keys.get("skip_derive").and_then(|entry| entry.list::<Ident>(errors)).unwrap_or_default();
    for name in skipped.iter().filter(|name| !TRAITS.iter().any(|known| name == known)) {
        errors.at(
            name.span(),
            format!(
                "`#[derive(Id)]` does not implement `{name}` in a way that can be skipped: the traits are {}, and \
                 `Serialize` includes `Deserialize`",
                TRAITS.map(|known| format!("`{known}`")).join(", ")
            ),
        );
    }
    (keys.core(errors), skipped.iter().map(ToString::to_string).collect())
}

/// Returns the type in a newtype.
fn inner(item: &DeriveInput, errors: &mut Errors) -> Option<(Type, Inner)> {
    let fields = match &item.data {
        Data::Struct(data) => Some(&data.fields),
        _ => None,
    };
    let Some(Fields::Unnamed(fields)) = fields.filter(|fields| fields.len() == 1) else {
        errors.on(
            &item.ident,
            format!(
                "the id `{0}` is not a newtype: write `struct {0}(Uuid);` with exactly one field",
                item.ident
            ),
        );
        return None;
    };
    let ty = fields.unnamed[0].ty.clone();
    let name = match ungrouped(&ty) {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    };
    let inner = match name.as_deref() {
        Some("String") => Inner::Text,
        Some("Uuid") => Inner::Uuid,
        Some("u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64") => Inner::Integer,
        _ => {
            errors.on(
                &ty,
                format!(
                    "an id is a newtype over `String`, `Uuid`, or an integer of up to 64 bits such as `u64`, not over \
                     `{}`: for another type, implement `Display`, `FromStr`, and the traits of serde for `{}`",
                    text(&ty),
                    item.ident
                ),
            );
            return None;
        }
    };
    Some((ty, inner))
}

/// Generates the implementations, with the names by which they can be left out.
fn implementations(core: &Path, ident: &Ident, ty: &Type, inner: Inner) -> Vec<(&'static str, TokenStream)> {
    let private = quote!(#core::__private);
    let fmt = quote!(#private::fmt);
    let name = ident.unraw().to_string();
    let mut all = vec![
        (
            "Clone",
            quote!(impl #private::Clone for #ident {
                fn clone(&self) -> Self { Self(#private::Clone::clone(&self.0)) }
            }),
        ),
        (
            "Debug",
            quote!(impl #fmt::Debug for #ident {
                fn fmt(&self, f: &mut #fmt::Formatter<'_>) -> #fmt::Result {
                    f.debug_tuple(#name).field(&self.0).finish()
                }
            }),
        ),
        (
            "Display",
            quote!(impl #fmt::Display for #ident {
                fn fmt(&self, f: &mut #fmt::Formatter<'_>) -> #fmt::Result { #fmt::Display::fmt(&self.0, f) }
            }),
        ),
        ("Eq", quote!(impl #private::Eq for #ident {})),
        (
            "FromStr",
            quote!(impl #private::FromStr for #ident {
                type Err = <#ty as #private::FromStr>::Err;
                fn from_str(text: &#private::str) -> #private::Result<Self, Self::Err> {
                    #private::Result::map(<#ty as #private::FromStr>::from_str(text), Self)
                }
            }),
        ),
        (
            "Hash",
            quote!(impl #private::Hash for #ident {
                fn hash<H: #private::Hasher>(&self, state: &mut H) { #private::Hash::hash(&self.0, state) }
            }),
        ),
        (
            "Ord",
            quote!(impl #private::Ord for #ident {
                fn cmp(&self, other: &Self) -> #private::Ordering { #private::Ord::cmp(&self.0, &other.0) }
            }),
        ),
        (
            "PartialEq",
            quote!(impl #private::PartialEq for #ident {
                fn eq(&self, other: &Self) -> #private::bool { self.0 == other.0 }
            }),
        ),
        (
            "PartialOrd",
            quote!(impl #private::PartialOrd for #ident {
                fn partial_cmp(&self, other: &Self) -> #private::Option<#private::Ordering> {
                    #private::Option::Some(#private::Ord::cmp(&self.0, &other.0))
                }
            }),
        ),
        (
            "Serialize",
            quote! {
                impl #private::Serialize for #ident {
                    fn serialize<S: #private::serde::Serializer>(
                        &self,
                        serializer: S,
                    ) -> #private::Result<S::Ok, S::Error> {
                        #private::Serialize::serialize(&self.0, serializer)
                    }
                }
                #[automatically_derived]
                impl<'de> #private::Deserialize<'de> for #ident {
                    fn deserialize<D: #private::serde::Deserializer<'de>>(
                        deserializer: D,
                    ) -> #private::Result<Self, D::Error> {
                        #private::Result::map(<#ty as #private::Deserialize<'de>>::deserialize(deserializer), Self)
                    }
                }
            },
        ),
        (
            "",
            quote! {
                impl #private::From<#ty> for #ident {
                    fn from(inner: #ty) -> Self { Self(inner) }
                }
                #[automatically_derived]
                impl #private::From<#ident> for #ty {
                    fn from(id: #ident) -> Self { id.0 }
                }
            },
        ),
    ];
    if inner != Inner::Text {
        all.push(("Copy", quote!(impl #private::Copy for #ident {})));
    }
    for (_, implementation) in &mut all {
        *implementation = quote!(#[automatically_derived] #implementation);
    }
    match inner {
        Inner::Text => all.push(("", of_text(core, ident))),
        Inner::Uuid => all.push(("", of_uuid(core, ident, ty))),
        Inner::Integer => {}
    }
    all
}

/// Generates the implementations that only an id over `String` has.
fn of_text(core: &Path, ident: &Ident) -> TokenStream {
    let private = quote!(#core::__private);
    let owned = [quote!(#private::str), quote!(#private::String)].map(|text| {
        quote! {
            #[automatically_derived]
            impl #core::ids::IdFrom<#text> for #ident {
                fn id_from(value: &#text) -> #private::Cow<'_, Self> {
                    #private::Cow::Owned(Self(#private::ToOwned::to_owned(value)))
                }
            }
        }
    });
    quote! {
        impl #ident {
            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &#private::str {
                &self.0
            }
        }
        #[automatically_derived]
        impl #private::From<&#private::str> for #ident {
            fn from(text: &#private::str) -> Self { Self(#private::ToOwned::to_owned(text)) }
        }
        #[automatically_derived]
        impl #private::AsRef<#private::str> for #ident {
            fn as_ref(&self) -> &#private::str { &self.0 }
        }
        #[automatically_derived]
        impl #private::Borrow<#private::str> for #ident {
            fn borrow(&self) -> &#private::str { &self.0 }
        }
        #(#owned)*
    }
}

/// Generates the implementations that only an id over `Uuid` has.
fn of_uuid(core: &Path, ident: &Ident, ty: &Type) -> TokenStream {
    let new = quote_spanned!(ty.span()=> #core::__private::new_uuid());
    quote! {
        impl #ident {
            /// Returns a new id: a random UUID of version 7, which begins with the current time.
            ///
            /// In a handler, which must be pure, use the context instead: `ctx.new_id().into()`.
            #[must_use]
            #[allow(clippy::new_without_default)] // each new id is another one
            pub fn new() -> Self {
                Self(#new)
            }
        }
    }
}
