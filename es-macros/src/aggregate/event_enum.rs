//! Generates the enum of an aggregate's events.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::{DeriveInput, Path};

use crate::support::spans::member;

/// Generates the enum and its implementation of `Event`.
pub(super) fn expand(item: &DeriveInput, core: &Path, name: &Ident, events: &[(Ident, Path)]) -> TokenStream {
    let visibility = &item.vis;
    let documentation = format!("An event of [`{}`].", item.ident.unraw());
    let variants: Vec<_> = events.iter().map(|(variant, _)| variant).collect();
    let paths: Vec<_> = events.iter().map(|(_, path)| path).collect();
    let documents = events.iter().map(|(variant, path)| documentation_of(variant, path));
    let event = event(core, name, events);
    let derives = derives(core, name, events);
    quote! {
        #[doc = #documentation]
        // Users choose the names and sizes of events.
        #[allow(deprecated, clippy::enum_variant_names, clippy::large_enum_variant)]
        #visibility enum #name {
            #(
                #[doc = #documents]
                #variants(#paths),
            )*
        }

        #[allow(deprecated)]
        const _: () = {
            #(
                #[automatically_derived]
                impl #core::__private::From<#paths> for #name {
                    fn from(event: #paths) -> Self {
                        Self::#variants(event)
                    }
                }
            )*

            #event
            #derives
        };
    }
}

/// Returns the documentation of a variant, with a link to its event.
fn documentation_of(variant: &Ident, path: &Path) -> String {
    let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
    let root = if path.leading_colon.is_some() { "::" } else { "" };
    format!("The event [`{}`]({root}{}).", variant.unraw(), segments.join("::"))
}

/// Generates the implementation of `Event`, which delegates to that of each event.
fn event(core: &Path, name: &Ident, events: &[(Ident, Path)]) -> TokenStream {
    let kinds = events.iter().map(|(_, path)| member(core, path, "KINDS"));
    let kind = of_each(events, |path| member(core, path, "kind"));
    let encode = of_each(events, |path| member(core, path, "encode"));
    let decode = events.iter().map(|(variant, path)| {
        let (knows, decode) = (member(core, path, "knows"), member(core, path, "decode"));
        quote! {
            if #knows(stored.name()) {
                return #core::__private::Result::map(#decode(stored), Self::#variant);
            }
        }
    });
    quote! {
        const PARTS: &[&[#core::__private::EventKind]] = &[#(#kinds),*];
        const ALL: [#core::__private::EventKind; #core::__private::count_kinds(PARTS)] =
            #core::__private::concat_kinds(PARTS);

        #[automatically_derived]
        impl #core::Event for #name {
            const KINDS: &'static [#core::__private::EventKind] = &ALL;

            fn kind(&self) -> &'static #core::__private::EventKind {
                #kind
            }

            fn encode(
                &self,
            ) -> #core::__private::Result<#core::__private::String, #core::__private::EncodeError> {
                #encode
            }

            fn decode(
                stored: &#core::__private::EventData,
            ) -> #core::__private::Result<Self, #core::__private::DecodeError> {
                #(#decode)*
                #core::__private::unknown_name::<Self>(stored)
            }
        }
    }
}

/// Generates the code of `#[derive(Clone, Debug, PartialEq)]`, but through `Member`: the derives would report a type
/// that is not an event three times.
fn derives(core: &Path, name: &Ident, events: &[(Ident, Path)]) -> TokenStream {
    let clone = matched(events, |variant, path| {
        let copy = member(core, path, "copy");
        quote!(Self::#variant(event) => Self::#variant(#copy(event)),)
    });
    let debug = matched(events, |variant, path| {
        let show = member(core, path, "show");
        let text = variant.unraw().to_string();
        quote!(Self::#variant(event) => #show(event, f, #text),)
    });
    let equal = events.iter().map(|(variant, path)| {
        let same = member(core, path, "same");
        quote!((Self::#variant(left), Self::#variant(right)) => #same(left, right),)
    });
    quote! {
        #[automatically_derived]
        impl ::core::clone::Clone for #name {
            fn clone(&self) -> Self {
                #clone
            }
        }

        #[automatically_derived]
        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                #debug
            }
        }

        #[automatically_derived]
        impl ::core::cmp::PartialEq for #name {
            fn eq(&self, other: &Self) -> #core::__private::bool {
                #[allow(unreachable_patterns)] // when there is one event
                match (self, other) {
                    #(#equal)*
                    _ => false,
                }
            }
        }
    }
}

/// Generates a `match` that calls a function of each event.
fn of_each(events: &[(Ident, Path)], function: impl Fn(&Path) -> TokenStream) -> TokenStream {
    matched(events, |variant, path| {
        let function = function(path);
        quote!(Self::#variant(event) => #function(event),)
    })
}

/// Generates a `match` on `self` with an arm for each event.
fn matched(events: &[(Ident, Path)], arm: impl Fn(&Ident, &Path) -> TokenStream) -> TokenStream {
    if events.is_empty() {
        return quote!(match *self {});
    }
    let arms = events.iter().map(|(variant, path)| arm(variant, path));
    quote! {
        match self {
            #(#arms)*
        }
    }
}
