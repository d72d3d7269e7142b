//! The enum of an aggregate's events that `#[derive(Aggregate)]` generates.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{DeriveInput, Path};

use crate::spans::Place;

/// The kinds of a type that the user names.
pub(super) fn kinds(core: &Path, event: &impl ToTokens) -> TokenStream {
    member(core, event, "KINDS")
}

/// An associated item of a type that the user names as an event.
fn member(core: &Path, event: &impl ToTokens, item: &str) -> TokenStream {
    let place = Place::of(event);
    let core = place.beginning(core);
    let item = place.ending(item);
    quote_spanned!(place.start=> <#event as #core::__private::Member>::#item)
}

/// The enum, and what makes it an event itself.
pub(super) fn expand(item: &DeriveInput, core: &Path, name: &Ident, events: &[(Ident, Path)]) -> TokenStream {
    let visibility = &item.vis;
    let documentation = format!("The events of [`{}`]: any one of them.", item.ident.unraw());
    let variants: Vec<_> = events.iter().map(|(variant, _)| variant).collect();
    let paths: Vec<_> = events.iter().map(|(_, path)| path).collect();
    let documents = events.iter().map(|(variant, path)| documentation_of(variant, path));
    let event = event(core, name, events);
    let derives = derives(core, name, events);
    quote! {
        #[doc = #documentation]
        // The variants have the names of types, and events are as large as they are.
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

/// The variant's documentation, with a link to the type that finds it from where the enum is.
fn documentation_of(variant: &Ident, path: &Path) -> String {
    let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
    let root = if path.leading_colon.is_some() { "::" } else { "" };
    format!("The event [`{}`]({root}{}).", variant.unraw(), segments.join("::"))
}

/// The implementation of `Event`, by that of the event that it is.
fn event(core: &Path, name: &Ident, events: &[(Ident, Path)]) -> TokenStream {
    let kinds = events.iter().map(|(_, path)| kinds(core, path));
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
                stored: &#core::EventData,
            ) -> #core::__private::Result<Self, #core::DecodeError> {
                #(#decode)*
                #core::__private::unknown_name::<Self>(stored)
            }
        }
    }
}

/// What `derive` would generate; but `derive` would ask each event for each trait, and report one that is
/// no event three times.
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
                #[allow(unreachable_patterns)] // there may be one event only
                match (self, other) {
                    #(#equal)*
                    _ => false,
                }
            }
        }
    }
}

/// What a function of the event says, whichever it is.
fn of_each(events: &[(Ident, Path)], function: impl Fn(&Path) -> TokenStream) -> TokenStream {
    matched(events, |variant, path| {
        let function = function(path);
        quote!(Self::#variant(event) => #function(event),)
    })
}

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
