//! Generates the implementations that call the methods.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, Expr, Path, Type, parse_quote};

use super::block::Header;
use super::handler::{Handler, cfgs};
use super::output::{Output, is_nameable};
use super::role::Role;
use crate::support::spans::Place;

pub(super) fn expand(core: &Path, header: &Header, handlers: &[Handler]) -> TokenStream {
    let cfgs = cfgs(&header.attributes);
    handlers.iter().map(|handler| handler.implementation(core, header, &cfgs)).collect()
}

impl Handler {
    fn implementation(&self, core: &Path, header: &Header, cfgs_of_block: &[Attribute]) -> TokenStream {
        let (name, items) = match self.mark.role {
            Role::Apply => ("Apply", self.apply()),
            Role::Handle => ("Handle", self.handle(core)),
            Role::Project => ("Project", self.project(core)),
            Role::React => ("React", self.react(core)),
        };
        let mut generics = header.generics.clone();
        generics.params.extend(self.generics.params.iter().cloned());
        if let Some(conditions) = &self.generics.where_clause {
            generics.make_where_clause().predicates.extend(conditions.predicates.iter().cloned());
        }
        let (parameters, _, conditions) = generics.split_for_impl();
        let (cfgs, input) = (&self.cfgs, &self.named_input);
        // Two implementations for one event are reported at the events.
        let place = Place::of(&self.input);
        let core = place.beginning(core);
        let name = Ident::new(name, place.start);
        let self_ty = moved(&header.self_ty, &place);
        let mut items = Group::new(Delimiter::Brace, items);
        items.set_span(place.end);
        let implementation = quote_spanned!(place.start=> impl #parameters #core::#name<#input> for #self_ty #conditions #items);
        quote! {
            #(#cfgs_of_block)*
            #(#cfgs)*
            #[automatically_derived]
            #[allow(deprecated)]
            #implementation
        }
    }

    fn apply(&self) -> TokenStream {
        let input = &self.input;
        let body = self.body(|| self.call(&quote!(event), None));
        quote! {
            fn apply(&mut self, event: &#input) {
                #body
            }
        }
    }

    fn handle(&self, core: &Path) -> TokenStream {
        let input = &self.named_input;
        let error = self.output.error(core);
        let body = self.body(|| {
            let call = self.call(&quote!(command), Some(quote!(ctx)));
            self.events(core, &quote!(Self), &call)
        });
        quote! {
            type Error = #error;

            // `Self::Error` would be ambiguous for a state with a variant `Error`.
            fn handle(
                &self,
                command: &#input,
                ctx: &#core::Context<Self>,
            ) -> #core::__private::Result<#core::Events<Self>, <Self as #core::Handle<#input>>::Error> {
                #body
            }
        }
    }

    fn project(&self, core: &Path) -> TokenStream {
        let input = &self.named_input;
        let body = self.body(|| {
            let call = self.call(&quote!(event), Some(quote!(ctx)));
            let ty = match &self.output {
                Output::Unit => &parse_quote!(()),
                Output::Plain(ty) => &**ty,
                Output::Result(result) => &result.whole,
            };
            let convert = conversion(Some(ty), &quote!(#core::__private::Projected), "projected");
            quote!(#convert(#call))
        });
        let (span, core) = self.at_name(core);
        quote_spanned! {span=>
            async fn project(
                &mut self,
                event: &#input,
                ctx: &#core::EventContext,
            ) -> #core::__private::Result<(), #core::BoxError> {
                #body
            }
        }
    }

    fn react(&self, core: &Path) -> TokenStream {
        let input = &self.named_input;
        let state = quote!(<Self as #core::Process>::State);
        let id = quote!(<#state as #core::Aggregate>::Id);
        let instance = self.body(|| self.instance(core, &id));
        let body = self.body(|| {
            let call = self.call(&quote!(event), Some(quote!(reaction)));
            let events = self.events(core, &state, &call);
            match &self.output {
                Output::Result(_) => {
                    quote!(#core::__private::Result::map_err(#events, #core::__private::Into::into))
                }
                _ => events,
            }
        });
        let instance = quote! {
            fn instance(
                &self,
                event: &#input,
                ctx: &#core::EventContext,
            ) -> #core::__private::Result<#core::__private::Option<#id>, #core::BoxError> {
                #instance
            }
        };
        let (span, core) = self.at_name(core);
        let state = moved(&state, &Place { start: span, end: span });
        quote_spanned! {span=>
            #instance

            async fn react(
                &self,
                event: &#input,
                reaction: &mut #core::Reaction<'_, #state>,
            ) -> #core::__private::Result<#core::Events<#state>, #core::BoxError> {
                #body
            }
        }
    }

    fn instance(&self, core: &Path, id: &TokenStream) -> TokenStream {
        match &self.instance {
            Some(function) => {
                let place = Place::of(function);
                let core = place.beginning(core);
                let (name, arguments) = match function {
                    Expr::Closure(closure) if closure.inputs.len() > 1 => {
                        ("instance_with", quote!(event, ctx, #function))
                    }
                    _ => ("instance_by", quote!(event, #function)),
                };
                let (name, arguments) = (Ident::new(name, place.start), place.arguments(arguments));
                quote_spanned!(place.start=> #core::__private::#name::<_, _, #id> #arguments)
            }
            None => {
                let span = self.mark.span;
                let core = Place { start: span, end: span }.beginning(core);
                quote_spanned!(span=> #core::__private::instance_of_stream(ctx))
            }
        }
    }

    /// Returns a span at the method's name, where a future that is not `Send` is reported, and a path with this span.
    fn at_name(&self, core: &Path) -> (Span, TokenStream) {
        let span = Span::call_site().located_at(self.name.span());
        (span, Place { start: span, end: span }.beginning(core))
    }

    /// Generates the body of a function. A method with a wrong signature is not called.
    fn body(&self, body: impl Fn() -> TokenStream) -> TokenStream {
        match self.is_valid {
            true => body(),
            false => quote!(loop {}),
        }
    }

    /// Generates the call of the method. A second parameter of a wrong type is reported at the type.
    fn call(&self, input: &TokenStream, context: Option<TokenStream>) -> TokenStream {
        let name = &self.name;
        let context = self.context.as_ref().zip(context).map(|(ty, context)| {
            let place = Place::of(ty);
            let mutability = matches!(self.mark.role, Role::React).then(|| quote_spanned!(place.start=> mut));
            let context = moved(&context, &Place { start: place.end, end: place.end });
            let reborrowed = quote_spanned!(place.start=> & #mutability *);
            quote!(, #reborrowed #context)
        });
        let wait = self.is_async.then(|| quote!(.await));
        quote!(Self::#name(self, #input #context) #wait)
    }

    /// Generates an expression that converts the result of `call` to a `Result` with events of `aggregate`.
    fn events(&self, core: &Path, aggregate: &TokenStream, call: &TokenStream) -> TokenStream {
        let ty = match &self.output {
            Output::Unit => Some(&parse_quote!(())),
            Output::Plain(ty) => Some(&**ty),
            Output::Result(result) => result.value.as_ref(),
        };
        let convert = conversion(ty, &quote!(#core::IntoEvents<#aggregate>), "into_events");
        match &self.output {
            // `Result::map` would report a wrong type a second time.
            Output::Result(_) => quote! {
                match #call {
                    #core::__private::Result::Ok(decision) => #core::__private::Result::Ok(#convert(decision)),
                    #core::__private::Result::Err(error) => #core::__private::Result::Err(error),
                }
            },
            _ => quote!(#core::__private::Result::Ok(#convert(#call))),
        }
    }
}

/// Generates the path of a function of a trait, as implemented for `ty`. A type without the trait is reported where the
/// method names it.
fn conversion(ty: Option<&Type>, of_trait: &TokenStream, function: &str) -> TokenStream {
    match ty {
        Some(ty) if is_nameable(ty) => {
            let place = Place::of(ty);
            let (of_trait, function) = (moved(of_trait, &place), place.ending(function));
            quote_spanned!(place.start=> <#ty as #of_trait>::#function)
        }
        _ => {
            let function = Ident::new(function, Span::call_site());
            quote!(<_ as #of_trait>::#function)
        }
    }
}

/// Moves tokens to the end of a place.
fn moved(tokens: &impl ToTokens, place: &Place) -> TokenStream {
    let moved = tokens.to_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(place.end));
        token
    });
    moved.collect()
}
