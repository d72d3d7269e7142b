//! Generates the filter of a consumer, and the dispatch of its events.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::Path;

use super::Consumer;
use crate::support::spans::{Place, assertion, member};
use crate::support::tokens::text;

impl Consumer {
    /// Generates an expression: the filter for the events.
    pub(super) fn filter(&self) -> TokenStream {
        let core = &self.core;
        let parts = self.sources.iter().flat_map(|source| {
            let aggregate = name_of(core, &source.aggregate);
            source.events.iter().map(move |event| {
                let place = Place::of(event);
                let core_here = place.beginning(core);
                let kinds = member(core, event, "KINDS");
                let arguments = place.arguments(quote!(filter, #aggregate, #kinds));
                quote_spanned!(place.start=> #core_here::__private::with_kinds #arguments)
            })
        });
        quote! {{
            let filter = #core::feed::EventFilter::none();
            #(let filter = #parts;)*
            filter
        }}
    }

    /// Generates statements that decode `event`, and return the result of `call`.
    pub(super) fn dispatch(&self, call: impl Fn(&Path) -> TokenStream) -> TokenStream {
        let core = &self.core;
        let arms = self.sources.iter().map(|source| {
            let aggregate = name_of(core, &source.aggregate);
            let events = source.events.iter().map(|event| dispatch_event(core, event, &call(event)));
            quote! {
                if ctx.stream().aggregate() == #aggregate {
                    #(#events)*
                }
            }
        });
        quote!(#(#arms)*)
    }

    /// Generates assertions that each event belongs to its aggregate.
    pub(super) fn assertions(&self) -> TokenStream {
        let core = &self.core;
        let all = self.sources.iter().flat_map(|source| {
            let aggregate = &source.aggregate;
            let name = text(aggregate);
            source.events.iter().map(move |event| {
                let owned = quote!(<<#aggregate as #core::Aggregate>::Event as #core::Event>::KINDS);
                let kinds = member(core, event, "KINDS");
                assertion(core, "assert_belongs", event, quote!(#name, #owned, #kinds))
            })
        });
        quote!(#(#all)*)
    }
}

/// Generates a statement that decodes `event` if it is this event, and returns the value of `call`.
pub(super) fn dispatch_event(core: &Path, event: &Path, call: &TokenStream) -> TokenStream {
    quote! {
        if <#event as #core::__private::Member>::knows(event.name()) {
            let event = <#event as #core::__private::Member>::decode(event)?;
            return #call;
        }
    }
}

fn name_of(core: &Path, aggregate: &Path) -> TokenStream {
    let place = Place::of(aggregate);
    let core = place.beginning(core);
    quote_spanned!(place.start=> <#aggregate as #core::Aggregate>::NAME)
}
