//! What projections and processes have in common: `events(Order(OrderPlaced), Stock(…))`, and a name.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{DeriveInput, LitStr, Meta, Path, Token, parenthesized};

use crate::errors::Errors;
use crate::keys::{Entry, Grammar, append};
use crate::shape::text;
use crate::spans::Place;

/// Reads the item, which cannot be generic; `None` when it is none.
pub(crate) fn parse(item: TokenStream, what: &str, errors: &mut Errors) -> Option<DeriveInput> {
    let item = errors.keep(syn::parse2::<DeriveInput>(item))?;
    if !item.generics.params.is_empty() {
        errors.on(
            &item.generics,
            format!(
                "the {what} `{}` cannot be generic: its checkpoints belong to one type; put what varies \
                 behind an `Arc<dyn …>`",
                item.ident
            ),
        );
    }
    Some(item)
}

/// Some events of one aggregate.
pub(crate) struct Source {
    pub(crate) aggregate: Path,
    pub(crate) events: Vec<Path>,
}

/// A source, or what is wrong with it.
struct Part(syn::Result<Source>);

impl Parse for Part {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let aggregate: Path = input.call(Path::parse_mod_style)?;
        if !input.peek(syn::token::Paren) {
            let name = text(&aggregate);
            return Ok(Self(Err(syn::Error::new_spanned(
                aggregate,
                format!(
                    "`{name}` does not say whose event it is, or which of its events: write them in the \
                     parentheses of their aggregate, as in `events(Order(OrderPlaced, OrderShipped))`"
                ),
            ))));
        }
        let content;
        parenthesized!(content in input);
        let events = Punctuated::<Path, Token![,]>::parse_terminated_with(&content, Path::parse_mod_style)?;
        Ok(Self(Ok(Source { aggregate, events: events.into_iter().collect() })))
    }
}

/// Reads the entry; what was mistaken has been reported, and is left out.
pub(crate) fn read(entry: &Entry, grammar: &Grammar, errors: &mut Errors) -> Vec<Source> {
    let Some(tokens) = entry.nested(grammar, errors) else { return Vec::new() };
    let parser = Punctuated::<Part, Token![,]>::parse_terminated;
    let Some(parts) = errors.keep(syn::parse::Parser::parse2(parser, tokens)) else { return Vec::new() };
    let is_empty = parts.is_empty();
    let sources: Vec<Source> = parts.into_iter().filter_map(|Part(source)| errors.keep(source)).collect();
    if (is_empty || !sources.is_empty()) && sources.iter().all(|source| source.events.is_empty()) {
        errors.at(entry.key.span(), grammar.how_to_write(&entry.key));
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    for source in &sources {
        for event in &source.events {
            let pair = (text(&source.aggregate), text(event));
            if seen.contains(&pair) {
                errors.on(event, format!("the event `{}` is listed twice: remove one of them", pair.1));
            }
            seen.push(pair);
        }
    }
    sources
}

/// An expression for the filter that takes these events.
pub(crate) fn filter(core: &Path, sources: &[Source]) -> TokenStream {
    let parts = sources.iter().flat_map(|source| {
        let aggregate = name_of(core, &source.aggregate);
        source.events.iter().map(move |event| {
            let place = Place::of(event);
            let core = place.beginning(core);
            let arguments =
                place.arguments(quote!(filter, #aggregate, <#event as #core::__private::Member>::KINDS));
            quote_spanned!(place.start=> #core::__private::with_kinds #arguments)
        })
    });
    quote! {{
        let filter = #core::feed::EventFilter::none();
        #(let filter = #parts;)*
        filter
    }}
}

/// Statements that decode `event` and hand it to what `call` makes of the crate's path and the event's type.
pub(crate) fn dispatch(
    core: &Path,
    sources: &[Source],
    call: impl Fn(&TokenStream, &Path) -> TokenStream,
) -> TokenStream {
    let arms = sources.iter().map(|source| {
        let aggregate = name_of(core, &source.aggregate);
        let events = source.events.iter().map(|event| dispatch_event(core, event, &call));
        quote! {
            if ctx.stream().aggregate() == #aggregate {
                #(#events)*
            }
        }
    });
    quote!(#(#arms)*)
}

/// A statement that does the same for one event.
pub(crate) fn dispatch_event(
    core: &Path,
    event: &Path,
    call: impl Fn(&TokenStream, &Path) -> TokenStream,
) -> TokenStream {
    let place = Place::of(event);
    let core_here = place.beginning(core);
    let call = call(&core_here, event);
    quote! {
        if <#event as #core::__private::Member>::knows(event.name()) {
            let event = <#event as #core::__private::Member>::decode(event)?;
            return #call;
        }
    }
}

/// Items that stop the compilation when an event is none of its aggregate's.
pub(crate) fn assertions(core: &Path, sources: &[Source]) -> TokenStream {
    let all = sources.iter().flat_map(|source| {
        let aggregate = &source.aggregate;
        let name = text(aggregate);
        source.events.iter().map(move |event| {
            let place = Place::of(event);
            let core_here = place.beginning(core);
            let owned = quote!(<<#aggregate as #core::Aggregate>::Event as #core::Event>::KINDS);
            let arguments =
                place.arguments(quote!(#name, #owned, <#event as #core::__private::Member>::KINDS));
            quote_spanned!(place.start=> const _: () = #core_here::__private::assert_belongs #arguments;)
        })
    });
    quote!(#(#all)*)
}

fn name_of(core: &Path, aggregate: &Path) -> TokenStream {
    let place = Place::of(aggregate);
    let core = place.beginning(core);
    quote_spanned!(place.start=> <#aggregate as #core::Aggregate>::NAME)
}

/// The content of `#[attribute(…)]`, if it is there.
pub(crate) fn tokens(
    item: &DeriveInput,
    attribute: &str,
    example: &str,
    errors: &mut Errors,
) -> Option<TokenStream> {
    let mut tokens: Option<TokenStream> = None;
    for found in item.attrs.iter().filter(|found| found.path().is_ident(attribute)) {
        let Meta::List(list) = &found.meta else {
            errors.on(found, format!("`#[{attribute}]` needs its keys: write `#[{attribute}({example})]`"));
            return None;
        };
        append(tokens.get_or_insert_default(), list.tokens.clone());
    }
    let Some(tokens) = tokens else {
        errors.on(
            &item.ident,
            format!(
                "the {attribute} `{}` does not say what it is: write `#[{attribute}({example})]` below the derive",
                item.ident
            ),
        );
        return None;
    };
    Some(tokens)
}

/// Reports the keys that are not among the given ones, each with what the item lacks without it.
pub(crate) fn require(
    item: &DeriveInput,
    attribute: &str,
    example: &str,
    required: &[(&str, &str)],
    given: &[String],
    errors: &mut Errors,
) {
    let ident = &item.ident;
    for (_, what) in required.iter().filter(|(key, _)| !given.iter().any(|given| given == key)) {
        errors.on(ident, format!("the {attribute} `{ident}` {what}: write `#[{attribute}({example})]`"));
    }
}

/// The name of a projection or a process, if it can be one.
pub(crate) fn valid_name(name: &LitStr, what: &str, errors: &mut Errors) -> String {
    let text = name.value();
    let wrong = if text.is_empty() {
        Some("cannot be empty")
    } else if text.contains('#') {
        Some("cannot contain `#`, which separates it from other parts of the names of its documents")
    } else if text.len() > 100 {
        Some("cannot have more than 100 bytes, so that there is room for the keys of its documents")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        errors.at(
            name.span(),
            format!("the name of a {what} {wrong}: write one as in `name = \"order_list\"`"),
        );
    }
    text
}
