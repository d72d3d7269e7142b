//! The code that `#[derive(Aggregate)]` generates.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Path};

use super::attributes::Attributes;
use super::fingerprint::fingerprint;
use super::members::Members;

pub(super) fn expand(item: &DeriveInput, attributes: &Attributes) -> TokenStream {
    let Attributes { core, name, id, retired, .. } = attributes;
    let ident = &item.ident;
    let (definition, event, apply) = match &attributes.members {
        Members::Listed { name, events } => (
            event_enum(item, attributes, name, events),
            quote!(#name),
            apply_listed(core, ident, name, events),
        ),
        Members::Family(family) => (
            TokenStream::new(),
            quote!(#family),
            quote_spanned!(family.span()=> <#ident as #core::Apply<#family>>::apply(self, event)),
        ),
    };
    let snapshots = attributes.snapshot.as_ref().map(|snapshot| {
        let fingerprint = fingerprint(item, snapshot.version);
        let policy = match snapshot.every {
            Some(every) => quote!(#core::SnapshotPolicy::Every(#every)),
            None => quote!(#core::SnapshotPolicy::Adaptive),
        };
        let json = quote_spanned!(snapshot.at=> #core::Snapshots::<#ident>::json);
        quote! {
            fn snapshots() -> #core::__private::Option<#core::Snapshots<Self>> {
                #core::__private::Option::Some(#json(#policy, #core::Fingerprint::new(#fingerprint)))
            }
        }
    });
    let id = quote_spanned!(id.span()=> #id);
    quote! {
        #definition

        const _: () = {
            #[automatically_derived]
            impl #core::Aggregate for #ident {
                type Id = #id;
                type Event = #event;

                const NAME: &'static #core::__private::str = #name;
                const RETIRED: &'static [&'static #core::__private::str] = &[#(#retired),*];

                fn apply_event(&mut self, event: &Self::Event) {
                    #apply
                }

                #snapshots
            }

            const _: () = #core::__private::assert_unique(
                #name,
                <#event as #core::Event>::KINDS,
                &[#(#retired),*],
            );
        };
    }
}

/// One `Apply` for each event, called by its full name: an unqualified call would let the compiler guess
/// another event's, and report mismatched types where an implementation is missing.
fn apply_listed(core: &Path, ident: &Ident, name: &Ident, events: &[(Ident, Path)]) -> TokenStream {
    let arms = events.iter().map(|(variant, path)| {
        // The error is about this event, so it points there.
        let mut ident = ident.clone();
        ident.set_span(path.span());
        let apply = quote_spanned!(path.span()=> <#ident as #core::Apply<#path>>::apply(self, event));
        quote!(#name::#variant(event) => #apply,)
    });
    quote! {
        match event {
            #(#arms)*
        }
    }
}

/// The enum of the listed events, and what makes it an event itself.
fn event_enum(
    item: &DeriveInput,
    attributes: &Attributes,
    name: &Ident,
    events: &[(Ident, Path)],
) -> TokenStream {
    let core = &attributes.core;
    let visibility = &item.vis;
    let documentation = format!("The events of [`{}`]: any one of them.", item.ident);
    let variants: Vec<_> = events.iter().map(|(variant, _)| variant).collect();
    let paths: Vec<_> = events.iter().map(|(_, path)| path).collect();
    let documents = variants.iter().map(|variant| format!("An event [`{variant}`]."));
    let kinds = paths.iter().map(|path| quote_spanned!(path.span()=> <#path as #core::Event>::KINDS));
    let kinds = quote!(&[#(#kinds),*]);
    let spanned_paths = paths.iter().map(|path| quote_spanned!(path.span()=> #path));
    quote! {
        #[doc = #documentation]
        #[derive(
            ::core::clone::Clone,
            ::core::fmt::Debug,
            ::core::cmp::PartialEq,
        )]
        #visibility enum #name {
            #(
                #[doc = #documents]
                #variants(#spanned_paths),
            )*
        }

        const _: () = {
            #(
                #[automatically_derived]
                impl #core::__private::From<#paths> for #name {
                    fn from(event: #paths) -> Self {
                        Self::#variants(event)
                    }
                }
            )*

            const PARTS: &[&[#core::__private::EventKind]] = #kinds;
            const ALL: [#core::__private::EventKind; #core::__private::count_kinds(PARTS)] =
                #core::__private::concat_kinds(PARTS);

            #[automatically_derived]
            impl #core::Event for #name {
                const KINDS: &'static [#core::__private::EventKind] = &ALL;

                fn kind(&self) -> &'static #core::__private::EventKind {
                    match self {
                        #(Self::#variants(event) => <#paths as #core::Event>::kind(event),)*
                    }
                }

                fn encode(
                    &self,
                ) -> #core::__private::Result<#core::__private::String, #core::__private::EncodeError> {
                    match self {
                        #(Self::#variants(event) => <#paths as #core::Event>::encode(event),)*
                    }
                }

                fn decode(
                    stored: &#core::EventData,
                ) -> #core::__private::Result<Self, #core::DecodeError> {
                    #(
                        if <#paths as #core::Event>::knows(stored.name()) {
                            return #core::__private::Result::map(
                                <#paths as #core::Event>::decode(stored),
                                Self::#variants,
                            );
                        }
                    )*
                    #core::__private::unknown_name::<Self>(stored)
                }
            }
        };
    }
}
