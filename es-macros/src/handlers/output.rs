//! What a handler returns.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{GenericArgument, Path, PathArguments, ReturnType, Type};

use crate::support::tokens::ungrouped;

/// The return type of a handler.
pub(super) enum Output {
    /// None, or `()`.
    Unit,
    /// A type that is not called `Result`.
    Plain(Box<Type>),
    /// `Result<T, E>`, or an alias of this name.
    Result(Box<Fallible>),
}

/// A type that is called `Result`.
pub(super) struct Fallible {
    pub(super) whole: Type,
    /// The first argument.
    pub(super) value: Option<Type>,
    /// The second argument, which an alias may lack.
    pub(super) error: Option<Type>,
}

impl Output {
    pub(super) fn of(output: &ReturnType) -> Self {
        let ReturnType::Type(_, ty) = output else { return Self::Unit };
        let ty = ungrouped(ty);
        if is_unit(ty) {
            return Self::Unit;
        }
        let Type::Path(path) = ty else { return Self::Plain(Box::new(ty.clone())) };
        let result = path.path.segments.last().filter(|last| last.ident == "Result");
        let Some(result) = result else { return Self::Plain(Box::new(ty.clone())) };
        let mut arguments = types(&result.arguments).into_iter();
        Self::Result(Box::new(Fallible {
            whole: ty.clone(),
            value: arguments.next(),
            error: arguments.next(),
        }))
    }

    /// Returns whether the type has no room for events.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Unit => true,
            Self::Plain(_) => false,
            Self::Result(result) => result.value.as_ref().is_some_and(is_unit),
        }
    }

    /// Generates the type of the handler's errors.
    pub(super) fn error(&self, core: &Path) -> TokenStream {
        match self {
            Self::Result(result) => match &**result {
                Fallible { error: Some(error), .. } => error.to_token_stream(),
                Fallible { whole, .. } => quote::quote!(<#whole as #core::__private::AnyResult>::Error),
            },
            _ => quote::quote!(#core::__private::Infallible),
        }
    }
}

/// Returns whether a type can be written in the body of a function, which `impl Trait` cannot.
pub(super) fn is_nameable(ty: &Type) -> bool {
    fn is_free(tokens: TokenStream) -> bool {
        tokens.into_iter().all(|token| match token {
            TokenTree::Ident(ident) => ident != "impl",
            TokenTree::Group(group) => is_free(group.stream()),
            _ => true,
        })
    }
    is_free(ty.to_token_stream())
}

fn is_unit(ty: &Type) -> bool {
    matches!(ungrouped(ty), Type::Tuple(tuple) if tuple.elems.is_empty())
}

fn types(arguments: &PathArguments) -> Vec<Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else { return Vec::new() };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    });
    types.collect()
}
