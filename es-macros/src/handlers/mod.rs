//! `#[handlers]`: from the methods of an `impl` block to implementations of `Apply`, `Handle`, `Project`, and `React`.
//!
//! `block` parses the block, `handler` checks the methods that have one of the attributes in `role`, and `expand`
//! generates the implementations. The methods are emitted as they are, without these attributes.

mod block;
mod expand;
mod handler;
mod lifetimes;
mod output;
mod role;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, Expr, Meta};

use crate::support::errors::Errors;
use crate::support::grammar::{Grammar, nearest};
use crate::support::tokens::text;
use block::{Block, Member, Method};
use handler::Handler;
use role::{Mark, Role};

static HANDLERS: Grammar = Grammar::new("`#[handlers(…)]`", &[("crate", "crate = ::path::to::es_core")]);
static REACT: Grammar = Grammar::new("`#[react(…)]`", &[("instance", "instance = |event| event.order_id")]);

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let core = HANDLERS.parse(arguments, &mut errors).core(&mut errors);
    let block = match Block::read(item.clone()) {
        Some(Ok(block)) => Some(block),
        Some(Err(error)) => {
            errors.push(error);
            None
        }
        None => {
            errors.at(
                Span::call_site(),
                format!(
                    "`#[handlers]` requires an `impl` block: write it above `impl Order {{ … }}`, and mark methods in \
                     the block with one of {}",
                    marks()
                ),
            );
            None
        }
    };
    let Some(mut block) = block else {
        let errors = errors.finish();
        return quote!(#errors #item);
    };
    let handlers = read(&mut block, &mut errors);
    let implementations = match &block.header.of_trait {
        Some(of_trait) => {
            errors.on(
                of_trait,
                format!(
                    "`#[handlers]` generates implementations of traits, and requires a block without one: write \
                     `impl {} {{ … }}`",
                    text(&block.header.self_ty)
                ),
            );
            TokenStream::new()
        }
        None => expand::expand(&core, &block.header, &handlers),
    };
    let errors = errors.finish();
    let block = block.to_token_stream();
    quote!(#errors #block #implementations)
}

/// Reads the marked methods, and removes the marks.
fn read(block: &mut Block, errors: &mut Errors) -> Vec<Handler> {
    let mut handlers: Vec<Handler> = Vec::new();
    let mut has_marks = false;
    for member in &mut block.members {
        let Member::Method(method) = member else { continue };
        let Some((mark, instance)) = take_mark(method, errors) else { continue };
        has_marks = true;
        let Some(handler) = Handler::read(mark, instance, method, errors) else { continue };
        let first = handlers.iter().find(|other| {
            // Two methods under different conditions may be alternatives.
            other.key() == handler.key() && other.cfgs.is_empty() && handler.cfgs.is_empty()
        });
        match first {
            Some(first) => errors.on(&handler.input, twice(first, &handler)),
            None => handlers.push(handler),
        }
    }
    if !has_marks && block.header.of_trait.is_none() {
        errors.at(
            Span::call_site(),
            format!("`#[handlers]` found no handlers in this block: mark methods with one of {}", marks()),
        );
    }
    handlers
}

/// Returns the attributes of methods, for messages.
fn marks() -> String {
    Role::ALL.map(|role| format!("`#[{}]`", role.name())).join(", ")
}

fn twice(first: &Handler, second: &Handler) -> String {
    let role = first.mark.role;
    format!(
        "the methods `{}` and `{}` {} the same {}, `{}`: remove one",
        first.name,
        second.name,
        role.name(),
        role.subject(),
        text(&first.input)
    )
}

/// Removes the attributes of this macro from a method. Returns the first one, and the function in
/// `#[react(instance = …)]`.
fn take_mark(method: &mut Method, errors: &mut Errors) -> Option<(Mark, Option<Expr>)> {
    let mut found: Option<(Mark, Option<Expr>)> = None;
    let attributes = std::mem::take(&mut method.attributes);
    for attribute in attributes {
        let Some(role) = role_of(&attribute, errors) else {
            method.attributes.push(attribute);
            continue;
        };
        let instance = read_keys(role, &attribute, errors);
        match &found {
            Some((first, _)) => errors.on(
                &attribute,
                format!(
                    "the method `{}` has `#[{}]` already: remove one of the two attributes",
                    method.signature.ident,
                    first.role.name()
                ),
            ),
            None => {
                let span = attribute.path().get_ident().map_or_else(Span::call_site, syn::Ident::span);
                found = Some((Mark { role, span }, instance));
            }
        }
    }
    found
}

/// Returns the role that an attribute gives to a method, if it is one of this macro. A typing error is reported.
fn role_of(attribute: &Attribute, errors: &mut Errors) -> Option<Role> {
    let written = attribute.path().get_ident()?.to_string();
    let named = |name: &str| Role::ALL.into_iter().find(|role| role.name() == name);
    if let Some(role) = named(&written) {
        return Some(role);
    }
    let nearest = nearest(&written, 2, Role::ALL.into_iter().map(Role::name))?;
    errors.on(
        attribute.path(),
        format!(
            "unknown attribute `#[{written}]` in a block with `#[handlers]`: did you mean `#[{nearest}]`?"
        ),
    );
    named(nearest)
}

/// Reads what an attribute has in parentheses.
fn read_keys(role: Role, attribute: &Attribute, errors: &mut Errors) -> Option<Expr> {
    match (&attribute.meta, role) {
        (Meta::Path(_), _) => None,
        (Meta::List(list), Role::React) => {
            let keys = REACT.parse(list.tokens.clone(), errors);
            keys.get("instance").and_then(|entry| entry.function(errors))
        }
        _ => {
            errors.on(attribute, format!("`#[{}]` has no keys: remove them", role.name()));
            None
        }
    }
}
