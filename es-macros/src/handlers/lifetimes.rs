//! Names for the lifetimes that a signature may leave out, and the header of an implementation may not.

use proc_macro2::{Delimiter, Group, Punct, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::{Ident, Lifetime};

/// Returns the tokens of a type in which each `'_`, and each reference without a lifetime, has a lifetime with a name.
/// The names are added to `named`.
pub(super) fn name_lifetimes(ty: TokenStream, named: &mut Vec<Lifetime>) -> TokenStream {
    let mut result = TokenStream::new();
    let mut tokens = ty.into_iter().peekable();
    let mut after_ident = false;
    while let Some(token) = tokens.next() {
        let is_ident = matches!(token, TokenTree::Ident(_));
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '\'' => match tokens.next() {
                Some(TokenTree::Ident(name)) if name == "_" => new(named, name.span()).to_tokens(&mut result),
                name => {
                    result.extend([TokenTree::from(punct)]);
                    result.extend(name);
                }
            },
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                let span = punct.span();
                result.extend([TokenTree::from(alone(&punct))]);
                let is_named =
                    matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '\'');
                if !is_named {
                    new(named, span).to_tokens(&mut result);
                }
            }
            // The lifetimes in `Fn(&str)` and `fn(&str)` are those of its calls.
            TokenTree::Group(group) if !(after_ident && group.delimiter() == Delimiter::Parenthesis) => {
                let mut inner = Group::new(group.delimiter(), name_lifetimes(group.stream(), named));
                inner.set_span(group.span());
                result.extend([TokenTree::from(inner)]);
            }
            other => result.extend([other]),
        }
        after_ident = is_ident;
    }
    result
}

fn new(named: &mut Vec<Lifetime>, span: Span) -> Lifetime {
    let ident: Ident = format_ident!("__{}", named.len(), span = span);
    let lifetime = Lifetime { apostrophe: span, ident };
    named.push(lifetime.clone());
    lifetime
}

/// Separates the first `&` of `&&` from the second.
fn alone(punct: &Punct) -> Punct {
    let mut alone = Punct::new(punct.as_char(), Spacing::Alone);
    alone.set_span(punct.span());
    alone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::tokens::text;

    #[test]
    fn names_what_was_left_out() {
        let named = |ty: &str| {
            let mut lifetimes = Vec::new();
            let ty = name_lifetimes(ty.parse().expect("tokens"), &mut lifetimes);
            (text(&ty), lifetimes.len())
        };
        assert_eq!(named("Rename<'_>"), ("Rename<'__0>".to_owned(), 1));
        assert_eq!(
            named("Pair<&str, (&'a u8, &[u8])>"),
            ("Pair<&'__0 str, (&'a u8, &'__1[u8])>".to_owned(), 2)
        );
        assert_eq!(named("&&str"), ("&'__0&'__1 str".to_owned(), 2));
        assert_eq!(named("Box<dyn Fn(&str) -> u8>"), ("Box<dyn Fn(&str)->u8>".to_owned(), 0));
        assert_eq!(named("Rename<'a>"), ("Rename<'a>".to_owned(), 0));
    }
}
