//! Spans of generated code: an error in it points at the user's code.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{DeriveInput, Path, parse_quote};

/// The location of a part of the user's code, from its first to its last token.
///
/// Stable compilers cannot join spans, but an expression spans from its first to its last token: generated code that
/// begins at [`start`](Self::start) and ends with a part made by this type is underlined like the user's own code.
pub(crate) struct Place {
    pub(crate) start: Span,
    pub(crate) end: Span,
}

impl Place {
    pub(crate) fn of(tokens: &impl ToTokens) -> Self {
        let tokens: Vec<_> = tokens.to_token_stream().into_iter().collect();
        let span = |token: Option<&TokenTree>| token.map_or_else(Span::call_site, TokenTree::span);
        Self { start: span(tokens.first()), end: span(tokens.last()) }
    }

    /// Returns the path of the crate for the beginning of generated code.
    pub(crate) fn beginning(&self, core: &Path) -> TokenStream {
        // `::es_core` means the same everywhere. Any other path, such as `$crate`, resolves where it was written.
        let absolute = core.leading_colon.is_some();
        core.to_token_stream()
            .into_iter()
            .map(|mut token| {
                token.set_span(if absolute { self.start } else { token.span().located_at(self.start) });
                token
            })
            .collect()
    }

    /// Returns a name for the end of generated code.
    pub(crate) fn ending(&self, name: &str) -> Ident {
        Ident::new(name, self.end)
    }

    /// Returns the arguments for the end of a generated call.
    pub(crate) fn arguments(&self, arguments: TokenStream) -> Group {
        let mut group = Group::new(Delimiter::Parenthesis, arguments);
        group.set_span(self.end);
        group
    }
}

/// Returns the path of an associated item of a type that the user lists as an event.
///
/// All expansions go through the trait `Member`, so that a type that is not an event is reported once.
pub(crate) fn member(core: &Path, event: &impl ToTokens, item: &str) -> TokenStream {
    let place = Place::of(event);
    let core = place.beginning(core);
    let item = place.ending(item);
    quote_spanned!(place.start=> <#event as #core::__private::Member>::#item)
}

/// `impl Trait for Item`: a supertrait that the item lacks is reported at the item's name.
pub(crate) fn implementation(core: &Path, name: &str, item: &Ident) -> TokenStream {
    let place = Place::of(item);
    let core = place.beginning(core);
    let name = Ident::new(name, place.start);
    quote_spanned!(place.start=> impl #core::#name for #item)
}

/// A check at compile time by a function in `__private`, whose failure is reported at `at`.
pub(crate) fn assertion(
    core: &Path,
    function: &str,
    at: &impl ToTokens,
    arguments: TokenStream,
) -> TokenStream {
    let place = Place::of(at);
    let core = place.beginning(core);
    let function = Ident::new(function, place.start);
    let arguments = place.arguments(arguments);
    quote_spanned!(place.start=> const _: () = #core::__private::#function #arguments;)
}

/// Generates the markers of the events that an item lists, which `Apply`, `Project`, and `React` require. `marker` is a
/// trait in `__private`.
pub(crate) fn lists(core: &Path, marker: &str, item: &Ident, events: &[impl ToTokens]) -> TokenStream {
    let markers = events.iter().map(|event| {
        let place = Place::of(event);
        let core = place.beginning(core);
        let marker = Ident::new(marker, place.start);
        quote_spanned!(place.start=> impl #core::__private::#marker<#event> for #item {})
    });
    quote!(#(#[automatically_derived] #[allow(deprecated)] #markers)*)
}

/// Generates a marker of every event, so that an item with mistakes is not reported again at each of its handlers.
pub(crate) fn lists_all(core: &Path, marker: &str, item: &DeriveInput) -> TokenStream {
    let ident = &item.ident;
    let marker = Ident::new(marker, Span::call_site());
    let mut generics = item.generics.clone();
    generics.params.push(parse_quote!(__Event));
    let (parameters, _, conditions) = generics.split_for_impl();
    let (_, arguments, _) = item.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #parameters #core::__private::#marker<__Event> for #ident #arguments #conditions {}
    }
}
