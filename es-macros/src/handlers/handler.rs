//! A marked method: reads its signature, and reports what is wrong with it.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Expr, FnArg, GenericParam, Generics, LifetimeParam, PatType, ReceiverKind, ReturnType, Type,
    parse_quote,
};

use super::block::Method;
use super::lifetimes::name_lifetimes;
use super::output::Output;
use super::role::{Mark, Receiver, Role};
use crate::support::errors::Errors;
use crate::support::tokens::{text, ungrouped};

/// A method, as far as the implementation that calls it depends on it.
pub(super) struct Handler {
    pub(super) mark: Mark,
    pub(super) cfgs: Vec<Attribute>,
    pub(super) name: Ident,
    pub(super) is_async: bool,
    /// The generics of the method, and the lifetimes that its first parameter leaves out.
    pub(super) generics: Generics,
    /// The type of the first parameter, without its reference.
    pub(super) input: Type,
    /// The same type, with names for all lifetimes.
    pub(super) named_input: TokenStream,
    /// The type of the second parameter.
    pub(super) context: Option<Type>,
    pub(super) output: Output,
    /// The function that finds the instance of a process.
    pub(super) instance: Option<Expr>,
    /// Whether the method has the right signature. If not, it is never called.
    pub(super) is_valid: bool,
}

impl Handler {
    /// Reads a method. Returns `None` if its event or command is unknown, which has been reported.
    pub(super) fn read(
        mark: Mark,
        instance: Option<Expr>,
        method: &mut Method,
        errors: &mut Errors,
    ) -> Option<Self> {
        let mut mistakes = Errors::new();
        let role = mark.role;
        check_sync(role, method, &mut mistakes);
        check_receiver(role, method, &mut mistakes);
        let parameters = parameters(role, method, &mut mistakes);
        let output = Output::of(&method.signature.output);
        check_output(role, &output, method, &mut mistakes);

        let signature = &method.signature;
        let input = parameters.first().map(|parameter| input(role, parameter, &mut mistakes));
        if let Some(input) = &input {
            check_generics(role, &signature.generics, input, &mut mistakes);
        }
        let is_valid = errors.absorb(mistakes);
        let mut generics = signature.generics.clone();
        if !is_valid {
            method.attributes.push(parse_quote!(#[allow(unused)]));
        }
        let (input, signature) = (input?, &method.signature);
        if !is_valid {
            generics.params = inferred(&generics, &input).cloned().collect();
            generics.where_clause = None;
        }
        let mut lifetimes = Vec::new();
        let named_input = name_lifetimes(input.to_token_stream(), &mut lifetimes);
        let lifetimes = lifetimes.into_iter().map(LifetimeParam::new);
        generics.params.extend(lifetimes.map(GenericParam::Lifetime));
        Some(Self {
            mark,
            cfgs: cfgs(&method.attributes),
            name: signature.ident.clone(),
            is_async: signature.asyncness.is_some(),
            generics,
            input,
            named_input,
            context: parameters.get(1).map(|parameter| (*parameter.ty).clone()),
            output,
            instance,
            is_valid,
        })
    }

    /// Returns what two handlers of one block must not share.
    pub(super) fn key(&self) -> (Role, String) {
        (self.mark.role, text(&self.input))
    }
}

/// Returns the attributes that decide whether a method exists.
pub(super) fn cfgs(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect()
}

/// Reports `async`, and `.await` in the body. Both are removed from the method, so that the compiler does not report
/// them again.
fn check_sync(role: Role, method: &mut Method, mistakes: &mut Errors) {
    let Some(reason) = role.reason_for_sync() else { return };
    let name = role.method();
    let found = match method.signature.asyncness.take() {
        Some(keyword) => {
            mistakes.on(&keyword, format!("{name} cannot be `async`, because {reason}"));
            true
        }
        None => match first_await(method.body.stream()) {
            Some(span) => {
                mistakes.at(span, format!("{name} cannot await, because {reason}"));
                true
            }
            None => false,
        },
    };
    if found {
        replace_body(method);
    }
}

/// Returns the place of the first `.await`, unless it may belong to an async block.
fn first_await(body: TokenStream) -> Option<Span> {
    let mut found = None;
    let mut after_dot = false;
    for token in body {
        match &token {
            TokenTree::Ident(ident) if ident == "async" => return None,
            TokenTree::Ident(ident) if after_dot && ident == "await" => {
                found = found.or_else(|| Some(ident.span()));
            }
            TokenTree::Group(group) => found = found.or_else(|| first_await(group.stream())),
            _ => {}
        }
        after_dot = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.');
    }
    found
}

fn check_receiver(role: Role, method: &mut Method, mistakes: &mut Errors) {
    let (name, expected, reason) = (role.method(), role.receiver(), role.reason_for_receiver());
    let Some(receiver) = method.signature.receiver() else {
        mistakes
            .on(&method.signature.ident, format!("{name} {reason}: add `{expected}` as its first parameter"));
        replace_body(method);
        return;
    };
    let found = match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => Receiver::Shared,
        ReceiverKind::Reference(..) => Receiver::Mutable,
        ReceiverKind::Typed(_, ty) => match ungrouped(ty) {
            Type::Reference(reference) if reference.mutability.is_some() => Receiver::Mutable,
            Type::Reference(_) => Receiver::Shared,
            _ => Receiver::Value,
        },
        _ => Receiver::Value,
    };
    if !role.accepts(found) {
        mistakes.on(receiver, format!("{name} {reason}: write `{expected}`"));
    }
}

/// Returns whether a parameter takes the place of `self`.
fn is_self(ty: &Type) -> bool {
    match ungrouped(ty) {
        Type::Reference(reference) => is_self(&reference.elem),
        Type::Path(path) => path.path.is_ident("Self"),
        _ => false,
    }
}

/// Prevents errors in the body that would follow from a mistake in the signature.
fn replace_body(method: &mut Method) {
    let mut body = Group::new(Delimiter::Brace, quote!(loop {}));
    body.set_span(method.body.span());
    method.body = body;
}

/// Returns the parameters after `self`.
fn parameters(role: Role, method: &mut Method, mistakes: &mut Errors) -> Vec<PatType> {
    let inputs = method.signature.inputs.iter();
    let parameters: Vec<PatType> = inputs
        .filter_map(|input| match input {
            FnArg::Typed(parameter) if !is_self(&parameter.ty) => Some(parameter.clone()),
            _ => None,
        })
        .collect();
    let (name, subject) = (role.method(), role.subject());
    let limit = if role.context().is_some() { 2 } else { 1 };
    if parameters.is_empty() {
        let example = if role == Role::Handle { "PlaceOrder" } else { "OrderPlaced" };
        mistakes.on(
            &method.signature.ident,
            format!("{name} names its {subject} by a parameter: add `{subject}: &{example}`"),
        );
    }
    if let (Some(expected), Some(parameter)) = (role.context(), parameters.get(1))
        && let Some(found) = context_name(&parameter.ty)
        && !is_context_of(expected, &found)
    {
        mistakes.on(
            &parameter.ty,
            format!("{name} has no `{found}`: write `{expected}`, or remove the parameter"),
        );
        // The compiler would report a type such as `Context<Self>` again, because `Self` is no aggregate.
        let inputs = std::mem::take(&mut method.signature.inputs);
        let is_wrong = |input: &FnArg| matches!(input, FnArg::Typed(typed) if text(typed) == text(parameter));
        method.signature.inputs = inputs.into_iter().filter(|input| !is_wrong(input)).collect();
        replace_body(method);
    }
    if let Some(parameter) = parameters.get(limit) {
        mistakes
            .on(parameter, format!("{name} has no parameters other than {}", role.reason_for_parameters()));
    }
    parameters
}

/// Returns the name of the context type of any handler that `ty` refers to.
fn context_name(ty: &Type) -> Option<Ident> {
    match ungrouped(ty) {
        Type::Reference(reference) => context_name(&reference.elem),
        Type::Path(path) => {
            let name = &path.path.segments.last()?.ident;
            let is_context =
                Role::ALL.into_iter().filter_map(Role::context).any(|of| is_context_of(of, name));
            is_context.then(|| name.clone())
        }
        _ => None,
    }
}

/// Returns whether the type `name` is that of the parameter `parameter`, as in `ctx: &Context<Self>`.
fn is_context_of(parameter: &str, name: &Ident) -> bool {
    parameter.split(|c: char| !c.is_alphanumeric()).any(|word| name == word)
}

/// Returns the type of the event or command.
fn input(role: Role, parameter: &PatType, mistakes: &mut Errors) -> Type {
    let ty = ungrouped(&parameter.ty);
    match ty {
        Type::Reference(reference) if reference.mutability.is_none() => (*reference.elem).clone(),
        _ => {
            let (pattern, subject) = (&parameter.pat, role.subject());
            let owned = match ty {
                Type::Reference(reference) => &*reference.elem,
                other => other,
            };
            mistakes.on(
                ty,
                format!(
                    "{} borrows its {subject}: write `{}: &{}`",
                    role.method(),
                    text(pattern),
                    text(owned)
                ),
            );
            owned.clone()
        }
    }
}

/// Reports parameters of the method that are unknown where an implementation calls it.
fn check_generics(role: Role, generics: &Generics, input: &Type, mistakes: &mut Errors) {
    for parameter in generics.params.iter().filter(|parameter| !is_inferred(parameter, input)) {
        mistakes.on(
            parameter,
            format!(
                "{} is generic only over types that occur in its {}, because others are unknown when it is called: \
                 remove the parameter",
                role.method(),
                role.subject()
            ),
        );
    }
}

/// Returns the parameters that the type of the event or command determines.
fn inferred<'a>(generics: &'a Generics, input: &Type) -> impl Iterator<Item = &'a GenericParam> {
    generics.params.iter().filter(|parameter| is_inferred(parameter, input))
}

fn is_inferred(parameter: &GenericParam, input: &Type) -> bool {
    match parameter {
        GenericParam::Lifetime(_) => true,
        GenericParam::Type(parameter) => mentions(input.to_token_stream(), &parameter.ident),
        GenericParam::Const(parameter) => mentions(input.to_token_stream(), &parameter.ident),
    }
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}

fn check_output(role: Role, output: &Output, method: &Method, mistakes: &mut Errors) {
    let returned = &method.signature.output;
    match role {
        Role::Apply if !matches!(output, Output::Unit) => mistakes.on(
            returned,
            "an `#[apply]` method returns nothing, because an event is a fact that cannot be rejected: remove the return \
             type, and check rules in the `#[handle]` method",
        ),
        Role::Handle if output.is_empty() => {
            const EXPECTED: &str = "returns the events of the command: return one event as in `-> OrderPlaced`, an \
                                    `Option`, an array, a tuple, or `Events<Self>`, or a `Result` with one of these";
            match returned {
                ReturnType::Default => {
                    mistakes.on(&method.signature.ident, format!("a `#[handle]` method {EXPECTED}"));
                }
                ReturnType::Type(_, ty) => mistakes.on(ty, format!("a `#[handle]` method {EXPECTED}")),
            }
        }
        _ => {}
    }
}
