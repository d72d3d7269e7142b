//! Generates the implementation of `Aggregate`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{DeriveInput, Path};

use super::attributes::{Attributes, Snapshot};
use super::event_enum;
use super::events::Events;
use super::fingerprint::fingerprint;
use crate::support::spans::{Place, assertion, implementation, member};

pub(super) fn expand(item: &DeriveInput, attributes: &Attributes) -> TokenStream {
    let Attributes { core, name, id, retired, .. } = attributes;
    let ident = &item.ident;
    let (definition, event, apply) = match &attributes.events {
        Events::Listed { name, events } => (
            event_enum::expand(item, core, name, events),
            name.to_token_stream(),
            apply_listed(core, ident, name, events),
        ),
        Events::Family(family) => (TokenStream::new(), quote!(#family), apply(core, ident, family)),
    };
    let events = attributes.events.paths();
    let kinds = events.iter().map(|event| member(core, event, "KINDS"));
    let distinct = events
        .iter()
        .enumerate()
        .map(|(index, event)| assertion(core, "assert_distinct", event, quote!(#name, PARTS, #index)));
    let not_retired = retired.iter().map(|retired| {
        let arguments = quote!(#name, <#event as #core::Event>::KINDS, #retired);
        assertion(core, "assert_retired", retired, arguments)
    });
    let snapshots = attributes.snapshot.as_ref().map(|snapshot| snapshots(core, item, snapshot));
    let header = implementation(core, "Aggregate", ident);
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

                // `Self::Event` would report a missing `Default` a second time.
                fn apply_event(&mut self, event: &#event) {
                    #apply
                }

                fn try_clone(&self) -> #core::__private::Option<Self> {
                    #[allow(unused_imports)] // whether the type implements `Clone` decides which of the two is used
                    use #core::__private::{Cloned as _, NotCloned as _};
                    (&#core::__private::CloneProbe::new(self)).try_clone()
                }

                #snapshots
            }

            const PARTS: &[&[#core::__private::EventKind]] = &[#(#kinds),*];
            #(#distinct)*
            #(#not_retired)*
        };
    }
}

/// Calls the `Apply` of each event.
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

/// Calls `Apply` by its full name. For an unqualified call, the compiler would guess another event's `Apply`, and
/// report mismatched types where an implementation is missing.
fn apply(core: &Path, ident: &Ident, event: &impl ToTokens) -> TokenStream {
    let place = Place::of(event);
    let core = place.beginning(core);
    // A missing implementation is reported at the type before `as`, which therefore gets the span of the event.
    let mut ident = ident.clone();
    ident.set_span(place.end);
    let apply = place.ending("apply");
    let arguments = place.arguments(quote!(self, event));
    quote_spanned!(place.start=> <#ident as #core::Apply<#event>>::#apply #arguments)
}

fn snapshots(core: &Path, item: &DeriveInput, snapshot: &Snapshot) -> TokenStream {
    let fingerprint = fingerprint(item, snapshot.version);
    let policy = match snapshot.every {
        Some(every) => quote!(#core::__private::SnapshotPolicy::Every(#every)),
        None => quote!(#core::__private::SnapshotPolicy::Adaptive),
    };
    let place = Place::of(&snapshot.key);
    let core_here = place.beginning(core);
    let arguments = place.arguments(quote!(#policy, #core::__private::Fingerprint::new(#fingerprint)));
    let json = quote_spanned!(place.start=> #core_here::__private::Snapshots::<Self>::json #arguments);
    quote! {
        fn snapshots() -> #core::__private::Option<#core::__private::Snapshots<Self>> {
            #[allow(unused_imports)] // whether the type implements `PartialEq` decides which of the two is used
            use #core::__private::{Equatable as _, NotEquatable as _};
            let snapshots = #json;
            #core::__private::Option::Some((&#core::__private::EqualityProbe::<Self>::new()).compare(snapshots))
        }
    }
}
