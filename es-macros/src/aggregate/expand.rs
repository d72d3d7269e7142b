//! The code that `#[derive(Aggregate)]` generates.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::{DeriveInput, LitStr, Path};

use super::attributes::{Attributes, Snapshot};
use super::events;
use super::fingerprint::fingerprint;
use super::members::Members;
use crate::spans::Place;

pub(super) fn expand(item: &DeriveInput, attributes: &Attributes) -> TokenStream {
    let Attributes { core, name, id, retired, .. } = attributes;
    let ident = &item.ident;
    let (definition, event, apply, parts) = match &attributes.members {
        Members::Listed { name, events } => (
            events::expand(item, core, name, events),
            quote!(#name),
            apply_listed(core, ident, name, events),
            events.iter().map(|(_, path)| quote!(#path)).collect(),
        ),
        Members::Family(family) => {
            (TokenStream::new(), quote!(#family), apply(core, ident, family), vec![quote!(#family)])
        }
    };
    let kinds: Vec<_> = parts.iter().map(|part| events::kinds(core, part)).collect();
    let distinct = parts.iter().enumerate().map(|(index, part)| {
        let place = Place::of(part);
        let core = place.beginning(core);
        let arguments = place.arguments(quote!(#name, PARTS, #index));
        quote_spanned!(place.start=> const _: () = #core::__private::assert_distinct #arguments;)
    });
    let not_retired = retired.iter().map(|retired| assert_retired(core, name, &event, retired));
    let snapshots = attributes.snapshot.as_ref().map(|snapshot| snapshots(core, item, snapshot));

    // With the place of the aggregate: that is what is missing a `Default`.
    let place = Place::of(ident);
    let core_here = place.beginning(core);
    let header = quote_spanned!(place.start=> impl #core_here::Aggregate for #ident);
    quote! {
        #definition

        #[allow(deprecated)]
        const _: () = {
            #[automatically_derived]
            #header {
                type Id = #id;
                type Event = #event;

                const NAME: &'static #core::__private::str = #name;
                const RETIRED: &'static [&'static #core::__private::str] = &[#(#retired),*];

                // Not `Self::Event`, which would report a missing `Default` a second time.
                fn apply_event(&mut self, event: &#event) {
                    #apply
                }

                #snapshots
            }

            const PARTS: &[&[#core::__private::EventKind]] = &[#(#kinds),*];
            #(#distinct)*
            #(#not_retired)*
        };
    }
}

/// One `Apply` for each event.
fn apply_listed(core: &Path, ident: &Ident, name: &Ident, events: &[(Ident, Path)]) -> TokenStream {
    if events.is_empty() {
        return quote!(match *event {});
    }
    let arms = events.iter().map(|(variant, path)| {
        let apply = apply(core, ident, path);
        quote!(#name::#variant(event) => #apply,)
    });
    quote! {
        match event {
            #(#arms)*
        }
    }
}

/// Called by its full name: an unqualified call would let the compiler guess another event's `Apply`, and
/// report mismatched types where an implementation is missing.
fn apply(core: &Path, ident: &Ident, event: &impl quote::ToTokens) -> TokenStream {
    let place = Place::of(event);
    let core = place.beginning(core);
    // An error is about the type in front of `as`, and so points there: at the event's own name.
    let mut ident = ident.clone();
    ident.set_span(place.end);
    let apply = place.ending("apply");
    // Variables mean what they mean here, also where the event's name comes out of a macro of the user's.
    let arguments = place.arguments(quote!(self, event));
    quote_spanned!(place.start=> <#ident as #core::Apply<#event>>::#apply #arguments)
}

fn assert_retired(core: &Path, name: &str, event: &TokenStream, retired: &LitStr) -> TokenStream {
    let place = Place::of(retired);
    let core_here = place.beginning(core);
    let arguments = place.arguments(quote!(#name, <#event as #core::Event>::KINDS, #retired));
    quote_spanned!(place.start=> const _: () = #core_here::__private::assert_retired #arguments;)
}

fn snapshots(core: &Path, item: &DeriveInput, snapshot: &Snapshot) -> TokenStream {
    let fingerprint = fingerprint(item, snapshot.version);
    let policy = match snapshot.every {
        Some(every) => quote!(#core::SnapshotPolicy::Every(#every)),
        None => quote!(#core::SnapshotPolicy::Adaptive),
    };
    let place = Place::of(&snapshot.key);
    let core_here = place.beginning(core);
    let arguments = place.arguments(quote!(#policy, #core::Fingerprint::new(#fingerprint)));
    let json = quote_spanned!(place.start=> #core_here::Snapshots::<Self>::json #arguments);
    quote! {
        fn snapshots() -> #core::__private::Option<#core::Snapshots<Self>> {
            #core::__private::Option::Some(#json)
        }
    }
}
