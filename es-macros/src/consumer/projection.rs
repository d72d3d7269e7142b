//! Projections only: `#[projection(…)]`, and fields with `#[read_model]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput, Field, Ident, Meta, Type};

use super::Consumer;
use crate::support::derive::Helper;
use crate::support::errors::Errors;
use crate::support::grammar::Grammar;
use crate::support::spans::{Place, implementation, lists, lists_all};
use crate::support::tokens::ungrouped;

static PROJECTION: Helper = Helper {
    name: "projection",
    example: "name = \"…\", events(Aggregate(Event, …))",
    grammar: Grammar::new(
        "`#[projection(…)]`",
        &[
            ("name", "name = \"order_list\""),
            ("events", "events(Order(OrderPlaced, OrderShipped), Stock(StockReserved))"),
            ("crate", "crate = ::path::to::es_core"),
        ],
    ),
};

/// The trait that marks the events of a projection.
const LISTS: &str = "ProjectionLists";

pub(super) fn expand(item: &DeriveInput, errors: &mut Errors) -> TokenStream {
    let read_models = read_models(item, errors);
    let required = [
        ("name", "under which its checkpoints are stored"),
        ("events", "the list of events that it handles"),
    ];
    let (consumer, _) = Consumer::read(&PROJECTION, &required, item, errors);
    let Consumer { core, name, .. } = &consumer;
    let ident = &item.ident;
    let lists = match errors.is_empty() {
        true => lists(core, LISTS, ident, &consumer.events()),
        false => lists_all(core, LISTS, item),
    };
    if !item.generics.params.is_empty() {
        return lists;
    }

    let filter = consumer.filter();
    let dispatch = consumer.dispatch(|event| {
        let place = Place::of(event);
        let core_here = place.beginning(core);
        let mut ident = ident.clone();
        ident.set_span(place.end);
        let project = place.ending("project");
        let arguments = place.arguments(quote!(self, &event, ctx));
        let call = quote_spanned!(place.start=> <#ident as #core_here::Project<#event>>::#project #arguments);
        quote!(#call.await.map_err(#core::projection::ProjectError::Handler))
    });
    let assertions = consumer.assertions();
    // The type is part of the code, so that an error about a type that is not a read model points at it.
    let stages = read_models.iter().map(|(name, ty)| quote!(#core::__private::stage::<#ty>(&mut self.#name)));
    let header = implementation(core, "Projection", ident);
    quote! {
        #[allow(deprecated)]
        const _: () = {
            #[automatically_derived]
            #header {
                const NAME: &'static #core::__private::str = #name;

                fn filter(&self) -> #core::feed::EventFilter #filter

                async fn handle(
                    &mut self,
                    event: &#core::__private::EventData,
                    ctx: &#core::EventContext,
                ) -> #core::__private::Result<(), #core::projection::ProjectError> {
                    #dispatch
                    #core::__private::Result::Ok(())
                }

                fn stages(&mut self) -> #core::__private::Vec<&mut dyn #core::projection::Stage> {
                    #core::__private::vec_of([#(#stages),*])
                }
            }

            #lists
            #assertions
        };
    }
}

/// Returns the fields with `#[read_model]`, by name or number, with their types.
fn read_models(item: &DeriveInput, errors: &mut Errors) -> Vec<(TokenStream, Type)> {
    let fields = match &item.data {
        Data::Struct(data) => &data.fields,
        Data::Enum(data) => {
            let fields = data.variants.iter().flat_map(|variant| &variant.fields);
            for mark in fields.filter_map(mark_of) {
                errors.on(mark, "`#[read_model]` requires a field of a struct: make the projection a struct");
            }
            return Vec::new();
        }
        Data::Union(_) => return Vec::new(),
    };
    let named = fields.iter().enumerate().map(|(index, field)| {
        let index = syn::Index::from(index);
        (field.ident.as_ref().map_or_else(|| quote!(#index), |name| quote!(#name)), field)
    });
    named
        .filter(|(name, field)| is_changed(name, field, errors))
        .map(|(name, field)| (name, field.ty.clone()))
        .collect()
}

/// Returns whether the projection changes the field's rows. Reports a read model without an attribute.
fn is_changed(name: &TokenStream, field: &Field, errors: &mut Errors) -> bool {
    let is_read_only = |mark: &Attribute| mark.parse_args::<Ident>().is_ok_and(|key| key == "read_only");
    match mark_of(field) {
        Some(mark) if matches!(mark.meta, Meta::Path(_)) => return true,
        Some(mark) if is_read_only(mark) => {}
        Some(mark) => errors.on(
            mark,
            "`#[read_model]` has one key, `read_only`: write `#[read_model]`, or `#[read_model(read_only)]` for the \
             rows of another projection",
        ),
        None if is_read_model(&field.ty) => errors.on(
            &field.ty,
            format!(
                "the read model `{name}` has no attribute: write `#[read_model]` above the field, or \
                 `#[read_model(read_only)]` if another projection writes its rows"
            ),
        ),
        None => {}
    }
    false
}

fn mark_of(field: &Field) -> Option<&Attribute> {
    field.attrs.iter().find(|attribute| attribute.path().is_ident("read_model"))
}

/// Returns whether the last segment of a type is `ReadModel`, or `SqlReadModel` of es-postgres.
fn is_read_model(ty: &Type) -> bool {
    let Type::Path(ty) = ungrouped(ty) else { return false };
    ty.path
        .segments
        .last()
        .is_some_and(|segment| segment.ident == "ReadModel" || segment.ident == "SqlReadModel")
}
