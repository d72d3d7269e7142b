//! The code that `#[event]` generates.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Attribute, Data, Meta, Path};

use super::Event;
use super::attributes::DERIVES;
use super::kind::Kind;
use crate::support::personal::{self, Owner};
use crate::support::serde::{SerdeAttributes, describe};
use crate::support::spans::{Place, assertion, member};
use crate::support::tokens::text;

pub(super) fn expand(event: &Event) -> TokenStream {
    let item = with_derives(event);
    if !event.is_valid {
        return item;
    }
    let core = &event.attributes.core;
    let ident = &event.item.ident;
    let kinds = event.kinds.iter().map(|kind| kind_constant(core, kind));
    let follows = event.kinds.iter().enumerate().filter_map(|(index, kind)| {
        let previous = kind.previous.as_ref()?;
        let kinds = member(core, previous, "KINDS");
        let arguments = quote!(&<#ident as #core::Event>::KINDS[#index], #kinds);
        Some(assertion(core, "assert_follows", previous, arguments))
    });
    let (kind, encode, decode) = match event.item.data {
        Data::Enum(_) => family(core, &event.kinds),
        _ => single(core, &event.kinds[0]),
    };
    quote! {
        #item

        #[allow(deprecated)] // the previous version may be
        const _: () = {
            #[automatically_derived]
            impl #core::Event for #ident {
                const KINDS: &'static [#core::__private::EventKind] = &[#(#kinds),*];

                fn kind(&self) -> &'static #core::__private::EventKind {
                    #kind
                }

                fn encode(&self) -> #core::__private::Result<#core::__private::String, #core::__private::EncodeError> {
                    #encode
                }

                fn decode(
                    stored: &#core::__private::EventData,
                ) -> #core::__private::Result<Self, #core::__private::DecodeError> {
                    #decode
                }
            }

            #(#follows)*
        };
    }
}

/// Returns the item with the missing derives added.
fn with_derives(event: &Event) -> TokenStream {
    let item = &event.item;
    if matches!(item.data, Data::Union(_)) {
        return item.to_token_stream();
    }
    let core = &event.attributes.core;
    let present = derives(&item.attrs);
    let missing = |name: &str| {
        !present.iter().any(|derive| derive == name)
            && !event.attributes.skip_derive.iter().any(|skipped| skipped == name)
    };
    let mut paths = Vec::new();
    for name in DERIVES.into_iter().filter(|name| missing(name)) {
        let name = format_ident!("{name}");
        paths.push(match name.to_string().as_str() {
            "Clone" => quote!(::core::clone::Clone),
            "Debug" => quote!(::core::fmt::Debug),
            "PartialEq" => quote!(::core::cmp::PartialEq),
            _ => quote!(#core::__private::#name),
        });
    }
    let serde_crate =
        (missing("Serialize") || missing("Deserialize")) && !SerdeAttributes::of(&item.attrs).has_crate;
    let serde_crate = serde_crate.then(|| {
        // `$crate` has been reported. Without the `$`, serde does not report it again.
        let path = text(&quote!(#core::__private::serde)).replace('$', "");
        quote!(#[serde(crate = #path)])
    });
    let derive = (!paths.is_empty()).then(|| quote!(#[derive(#(#paths),*)]));
    quote!(#derive #serde_crate #item)
}

fn kind_constant(core: &Path, kind: &Kind) -> TokenStream {
    let Kind { name, version, aliases, .. } = kind;
    let fields = kind.fields.iter().map(|(name, ty)| quote!(#core::__private::Field::new(#name, #ty)));
    let previous = kind.previous.as_ref().map(|previous| {
        let kinds = member(core, previous, "KINDS");
        quote!(.with_previous(&#kinds[0]))
    });
    let aliases = (!aliases.is_empty()).then(|| quote!(.with_aliases(&[#(#aliases),*])));
    let describe = describe(core, &kind.types);
    let types = (!kind.types.is_empty()).then(|| quote!(.with_types(|types| #describe)));
    quote! {
        #core::__private::EventKind::new(#name, #version)
            .with_fields(&[#(#fields),*])
            #types
            #aliases
            #previous
    }
}

/// Generates `kind`, `encode`, and `decode` for a struct.
fn single(core: &Path, kind: &Kind) -> (TokenStream, TokenStream, TokenStream) {
    let name = &kind.name;
    let bind = personal::bind(core, Owner::Event, name, &kind.personal, |field| quote!(&self.#field));
    let by_version = by_version(core, kind, 0, &quote!(#core::__private::decode_json(stored)));
    (
        quote!(&<Self as #core::Event>::KINDS[0]),
        quote!(#bind #core::__private::encode_json(#name, self)),
        quote! {
            if <Self as #core::Event>::KINDS[0].matches(stored.name()) {
                #by_version
            } else {
                #core::__private::unknown_name::<Self>(stored)
            }
        },
    )
}

/// Generates `kind`, `encode`, and `decode` for an enum.
fn family(core: &Path, kinds: &[Kind]) -> (TokenStream, TokenStream, TokenStream) {
    let variants: Vec<&Ident> = kinds.iter().filter_map(|kind| kind.variant.as_ref()).collect();
    let with_personal: Vec<_> = kinds.iter().filter(|kind| !kind.personal.is_empty()).collect();
    let bind = (!with_personal.is_empty()).then(|| {
        let arms = with_personal.iter().map(|kind| {
            let (variant, used) = (&kind.variant, personal::used(&kind.personal));
            let bind = personal::bind(core, Owner::Event, &kind.name, &kind.personal, |field| quote!(#field));
            quote!(Self::#variant { #(#used,)* .. } => { #bind })
        });
        quote!(match self { #(#arms)* #[allow(unreachable_patterns)] _ => {} })
    });
    let index = 0..variants.len();
    let decode = kinds.iter().enumerate().zip(&variants).map(|((index, kind), variant)| {
        let variant = variant.unraw().to_string();
        let current = quote!(#core::__private::decode_variant(#variant, stored));
        let by_version = by_version(core, kind, index, &current);
        quote! {
            if <Self as #core::Event>::KINDS[#index].matches(stored.name()) {
                return #by_version;
            }
        }
    });
    let kind = match variants.is_empty() {
        true => quote!(match *self {}),
        false => quote! {
            match self {
                #(Self::#variants { .. } => &<Self as #core::Event>::KINDS[#index],)*
            }
        },
    };
    (
        kind,
        quote!(#bind #core::__private::encode_variant(<Self as #core::Event>::kind(self).name(), self)),
        quote! {
            #(#decode)*
            #core::__private::unknown_name::<Self>(stored)
        },
    )
}

/// Decodes a stored event by its version. `current` decodes the current one.
fn by_version(core: &Path, kind: &Kind, index: usize, current: &TokenStream) -> TokenStream {
    let version = kind.version;
    let earlier = kind.previous.as_ref().map(|previous| {
        let place = Place::of(previous);
        let decode = member(core, previous, "decode_previous");
        let next = quote_spanned!(place.end=> ::<Self>);
        let arguments = place.arguments(quote!(stored));
        quote!(1..#version => #decode #next #arguments,)
    });
    quote! {
        match stored.version() {
            #version => #current,
            #earlier
            _ => #core::__private::unknown_version::<Self>(#index, stored),
        }
    }
}

/// Returns the last names of the derives on an item.
fn derives(attributes: &[Attribute]) -> Vec<String> {
    let mut names = Vec::new();
    for attribute in attributes {
        let Meta::List(list) = &attribute.meta else { continue };
        if !list.path.is_ident("derive") {
            continue;
        }
        let _ = attribute.parse_nested_meta(|meta| {
            names.extend(meta.path.segments.last().map(|segment| segment.ident.unraw().to_string()));
            Ok(())
        });
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn knows_derives_by_their_last_names() {
        let item: syn::ItemStruct = parse_quote! {
            #[derive(Clone, serde::Serialize)]
            #[derive(std::fmt::Debug)]
            struct Placed;
        };
        assert_eq!(derives(&item.attrs), ["Clone", "Serialize", "Debug"]);
    }
}
