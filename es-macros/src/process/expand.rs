//! The code that `#[derive(Process)]` generates.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Path};

use super::attributes::Attributes;
use crate::shape::text;
use crate::sources::{self, Source};
use crate::spans::Place;

pub(super) fn expand(item: &DeriveInput, attributes: &Attributes) -> TokenStream {
    let Attributes { core, name, state, sources, timeouts } = attributes;
    let ident = &item.ident;
    let filter = sources::filter(core, sources);
    let react = |core: &TokenStream, event: &Path| {
        let place = Place::of(event);
        let arguments = place.arguments(quote!(self, &event, ctx, reactor));
        let call = quote_spanned!(place.start=> #core::__private::react::<_, #event>);
        quote!(#call #arguments.await)
    };
    let dispatch = sources::dispatch(core, sources, react);
    let listed = listed(sources, timeouts);
    let lists = listed.iter().map(|event| {
        let place = Place::of(*event);
        let core_here = place.beginning(core);
        quote_spanned!(place.start=> impl #core_here::process::Lists<#event> for #ident {})
    });
    let due = timeouts.iter().map(|event| sources::dispatch_event(core, event, react));
    let kinds = timeouts.iter().map(|event| quote!(<#event as #core::__private::Member>::KINDS));
    let texts = timeouts.iter().map(|event| {
        quote! {
            if <#event as #core::__private::Member>::knows(stored.name()) {
                return <#event as #core::__private::Member>::decoded_text(stored);
            }
        }
    });
    let assertions = sources::assertions(core, sources);
    let place = Place::of(ident);
    let core_here = place.beginning(core);
    let header = quote_spanned!(place.start=> impl #core_here::Process for #ident);
    quote! {
        #[allow(deprecated)]
        const _: () = {
            const TIMEOUTS: &[&[#core::__private::EventKind]] = &[#(#kinds),*];

            #[automatically_derived]
            #header {
                const NAME: &'static #core::__private::str = #name;
                type State = #state;
                const TIMEOUTS: &'static [&'static [#core::__private::EventKind]] = TIMEOUTS;

                fn timeout_text(
                    stored: &#core::EventData,
                ) -> #core::__private::Result<#core::__private::String, #core::DecodeError> {
                    #(#texts)*
                    #core::__private::Result::Err(#core::DecodeError::unknown_name(stored.name(), &TIMEOUTS.concat()))
                }

                fn filter(&self) -> #core::feed::EventFilter #filter

                async fn handle(
                    &self,
                    event: &#core::EventData,
                    ctx: &#core::EventContext,
                    reactor: &mut #core::process::Reactor<Self::State>,
                ) -> #core::__private::Result<(), #core::projection::ProjectError> {
                    #dispatch
                    #core::__private::Result::Ok(())
                }

                async fn time_out(
                    &self,
                    event: &#core::EventData,
                    ctx: &#core::EventContext,
                    reactor: &mut #core::process::Reactor<Self::State>,
                ) -> #core::__private::Result<(), #core::projection::ProjectError> {
                    #(#due)*
                    let _ = (ctx, reactor);
                    #core::__private::Result::Err(#core::__private::no_timeout(event))
                }
            }

            #(#[automatically_derived] #lists)*

            #assertions
        };
    }
}

/// All events and timeouts, each once.
fn listed<'a>(sources: &'a [Source], timeouts: &'a [Path]) -> Vec<&'a Path> {
    let mut listed: Vec<&Path> = Vec::new();
    for event in sources.iter().flat_map(|source| &source.events).chain(timeouts) {
        if listed.iter().all(|before| text(before) != text(event)) {
            listed.push(event);
        }
    }
    listed
}
