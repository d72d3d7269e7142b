//! The `impl` block. The bodies of its methods are not parsed.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Attribute, Generics, Signature, Token, Type, Visibility};

/// An `impl` block.
pub(super) struct Block {
    /// Everything before the braces, as it was written.
    head: TokenStream,
    pub(super) header: Header,
    inner_attributes: Vec<Attribute>,
    pub(super) members: Vec<Member>,
    braces: Group,
}

/// What the part before the braces says.
pub(super) struct Header {
    pub(super) attributes: Vec<Attribute>,
    pub(super) generics: Generics,
    /// The trait that the block implements.
    pub(super) of_trait: Option<Type>,
    pub(super) self_ty: Type,
}

pub(super) enum Member {
    Method(Box<Method>),
    /// A constant, a type, or a macro.
    Other(TokenStream),
}

pub(super) struct Method {
    pub(super) attributes: Vec<Attribute>,
    visibility: Visibility,
    pub(super) signature: Signature,
    pub(super) body: Group,
}

impl Block {
    /// Reads an item. Returns `None` if it is not an `impl` block.
    pub(super) fn read(item: TokenStream) -> Option<syn::Result<Self>> {
        let mut tokens: Vec<TokenTree> = item.into_iter().collect();
        let Some(TokenTree::Group(braces)) = tokens.pop() else { return None };
        let head: TokenStream = tokens.into_iter().collect();
        let header = Header::read.parse2(head.clone()).ok()?;
        if braces.delimiter() != Delimiter::Brace {
            return None;
        }
        let members = |input: ParseStream<'_>| {
            let inner_attributes = input.call(Attribute::parse_inner)?;
            let mut members = Vec::new();
            while !input.is_empty() {
                members.push(input.parse()?);
            }
            Ok((inner_attributes, members))
        };
        let content = members.parse2(braces.stream());
        Some(content.map(|(inner_attributes, members)| Self {
            head,
            header,
            inner_attributes,
            members,
            braces,
        }))
    }
}

impl Header {
    fn read(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        input.parse::<Option<Token![unsafe]>>()?;
        input.parse::<Token![impl]>()?;
        let mut generics: Generics = input.parse()?;
        input.parse::<Option<Token![!]>>()?;
        let mut self_ty: Type = input.parse()?;
        let mut of_trait = None;
        if input.parse::<Option<Token![for]>>()?.is_some() {
            of_trait = Some(self_ty);
            self_ty = input.parse()?;
        }
        generics.where_clause = input.parse()?;
        Ok(Self { attributes, generics, of_trait, self_ty })
    }
}

impl Parse for Member {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility: Visibility = input.parse()?;
        if is_function(input) {
            let (signature, body) = (input.parse()?, body(input)?);
            return Ok(Self::Method(Box::new(Method { attributes, visibility, signature, body })));
        }
        let is_item = input.peek(Token![const]) || input.peek(Token![type]);
        let mut tokens = quote!(#(#attributes)* #visibility);
        while !input.is_empty() {
            let token: TokenTree = input.parse()?;
            let is_last = match &token {
                TokenTree::Punct(punct) => punct.as_char() == ';',
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_item,
                _ => false,
            };
            tokens.extend([token]);
            if is_last {
                break;
            }
        }
        Ok(Self::Other(tokens))
    }
}

/// Parses a body. One that a macro substituted is in an invisible group.
fn body(input: ParseStream<'_>) -> syn::Result<Group> {
    let ahead = input.fork();
    match ahead.parse() {
        Ok(TokenTree::Group(group)) if group.delimiter() == Delimiter::None => {
            input.advance_to(&ahead);
            body.parse2(group.stream())
        }
        _ => input.parse(),
    }
}

fn is_function(input: ParseStream<'_>) -> bool {
    let is_qualified =
        || input.peek(Token![async]) || input.peek(Token![unsafe]) || input.peek(Token![extern]);
    let is_const = || {
        let ahead = input.fork();
        ahead.parse::<Token![const]>().is_ok() && is_function(&ahead)
    };
    input.peek(Token![fn]) || is_qualified() || is_const()
}

impl ToTokens for Block {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { head, inner_attributes, members, .. } = self;
        let mut braces = Group::new(Delimiter::Brace, quote!(#(#inner_attributes)* #(#members)*));
        braces.set_span(self.braces.span());
        tokens.extend(quote!(#head #braces));
    }
}

impl ToTokens for Member {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Method(method) => {
                let Method { attributes, visibility, signature, body } = &**method;
                tokens.extend(quote!(#(#attributes)* #visibility #signature #body));
            }
            Self::Other(other) => other.to_tokens(tokens),
        }
    }
}
