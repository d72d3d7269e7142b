//! Where generated code stands, and with it what an error in it points at.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Path;

/// The place of something that the user wrote, from its first to its last token.
///
/// A stable compiler does not join spans, but it takes an expression to reach from its first token to its
/// last: generated code that begins at [`start`](Self::start) and ends in a part made by this type is
/// underlined like what was written.
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

    /// The path of the crate, where generated code begins with it.
    pub(crate) fn beginning(&self, path: &Path) -> TokenStream {
        // `::es_core` means the same everywhere; anything else, as `$crate`, what it means where it stands.
        let absolute = path.leading_colon.is_some();
        path.to_token_stream()
            .into_iter()
            .map(|mut token| {
                token.set_span(if absolute { self.start } else { token.span().located_at(self.start) });
                token
            })
            .collect()
    }

    /// A name that generated code ends with.
    pub(crate) fn ending(&self, name: &str) -> Ident {
        Ident::new(name, self.end)
    }

    /// The arguments that a generated call ends with.
    pub(crate) fn arguments(&self, arguments: TokenStream) -> Group {
        let mut group = Group::new(Delimiter::Parenthesis, arguments);
        group.set_span(self.end);
        group
    }
}
