//! The code that `#[derive(Projection)]` generates.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::DeriveInput;

use super::attributes::Attributes;
use crate::sources;
use crate::spans::Place;

pub(super) fn expand(item: &DeriveInput, attributes: &Attributes) -> TokenStream {
    let Attributes { core, name, sources, read_models } = attributes;
    let ident = &item.ident;
    let filter = sources::filter(core, sources);
    let dispatch = sources::dispatch(core, sources, |core, event| {
        let place = Place::of(event);
        let mut ident = ident.clone();
        ident.set_span(place.end);
        let project = place.ending("project");
        let arguments = place.arguments(quote!(self, &event, ctx));
        let call = quote_spanned!(place.start=> <#ident as #core::Project<#event>>::#project #arguments);
        quote!(#call.await.map_err(#core::projection::ProjectError::Handler))
    });
    let assertions = sources::assertions(core, sources);
    // With the type, so that one that is no read model is underlined where it stands.
    let stages = read_models.iter().map(|(name, ty)| quote!(#core::__private::stage::<#ty>(&mut self.#name)));
    let place = Place::of(ident);
    let core_here = place.beginning(core);
    let header = quote_spanned!(place.start=> impl #core_here::Projection for #ident);
    quote! {
        #[allow(deprecated)]
        const _: () = {
            #[automatically_derived]
            #header {
                const NAME: &'static #core::__private::str = #name;

                fn filter(&self) -> #core::feed::EventFilter #filter

                async fn handle(
                    &mut self,
                    event: &#core::EventData,
                    ctx: &#core::EventContext,
                ) -> #core::__private::Result<(), #core::projection::ProjectError> {
                    #dispatch
                    #core::__private::Result::Ok(())
                }

                fn stages(&mut self) -> #core::__private::Vec<&mut dyn #core::projection::Stage> {
                    #core::__private::Vec::from([#(#stages),*])
                }
            }

            #assertions
        };
    }
}
