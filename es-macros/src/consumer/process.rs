//! Processes only: `#[process(…)]` with its state and timeouts.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Ident, Path};

use super::Consumer;
use super::dispatch::dispatch_event;
use super::sources::{distinct, listed_twice};
use crate::support::derive::Helper;
use crate::support::errors::Errors;
use crate::support::grammar::{Entry, Grammar};
use crate::support::spans::{Place, implementation, lists, lists_all, member};
use crate::support::tokens::text;

static PROCESS: Helper = Helper {
    name: "process",
    example: "name = \"…\", state = …, events(Aggregate(Event, …))",
    grammar: Grammar::new(
        "`#[process(…)]`",
        &[
            ("name", "name = \"fulfillment\""),
            ("state", "state = Fulfillment"),
            ("events", "events(Order(OrderPlaced), Stock(StockReserved))"),
            ("timeouts", "timeouts(PaymentOverdue)"),
            ("crate", "crate = ::path::to::es_core"),
        ],
    ),
};

/// The trait that marks the events and timeouts of a process.
const LISTS: &str = "ProcessLists";

/// Generates no implementation without a state, for which there is no substitute.
pub(super) fn expand(item: &DeriveInput, errors: &mut Errors) -> TokenStream {
    let required = [
        ("name", "under which its checkpoints are stored"),
        ("state", "the aggregate that holds its state"),
        ("events", "the list of events that it reacts to"),
    ];
    let (consumer, keys) = Consumer::read(&PROCESS, &required, item, errors);
    let timeouts = keys.get("timeouts").map(|entry| read_timeouts(entry, errors)).unwrap_or_default();
    let state = keys.get("state").and_then(|entry| entry.path(errors));
    let listed = match errors.is_empty() {
        true => {
            let events = distinct(consumer.events().iter().chain(&timeouts));
            lists(&consumer.core, LISTS, &item.ident, &events)
        }
        false => lists_all(&consumer.core, LISTS, item),
    };
    let implementation = state
        .filter(|_| item.generics.params.is_empty())
        .map(|state| implement(&item.ident, &consumer, &state, &timeouts));
    quote!(#implementation #listed)
}

fn read_timeouts(entry: &Entry, errors: &mut Errors) -> Vec<Path> {
    let timeouts = entry.list::<Path>(errors).unwrap_or_default();
    for (index, event) in timeouts.iter().enumerate() {
        if timeouts[..index].iter().any(|before| text(before) == text(event)) {
            errors.on(event, listed_twice(event));
        }
    }
    timeouts
}

fn implement(ident: &Ident, consumer: &Consumer, state: &Path, timeouts: &[Path]) -> TokenStream {
    let Consumer { core, name, .. } = consumer;
    let filter = consumer.filter();
    let react = |event: &Path| {
        let place = Place::of(event);
        let core_here = place.beginning(core);
        let arguments = place.arguments(quote!(self, &event, ctx, reactor));
        let call = quote_spanned!(place.start=> #core_here::__private::react::<_, #event>);
        quote!(#call #arguments.await)
    };
    let dispatch = consumer.dispatch(react);
    let due = timeouts.iter().map(|event| dispatch_event(core, event, &react(event)));
    let kinds = timeouts.iter().map(|event| member(core, event, "KINDS"));
    let texts = timeouts.iter().map(|event| {
        quote! {
            if <#event as #core::__private::Member>::knows(stored.name()) {
                return <#event as #core::__private::Member>::decoded_text(stored);
            }
        }
    });
    let assertions = consumer.assertions();
    let header = implementation(core, "Process", ident);
    quote! {
        #[allow(deprecated)]
        const _: () = {
            const TIMEOUTS: &[&[#core::__private::EventKind]] = &[#(#kinds),*];

            #[automatically_derived]
            #header {
                const NAME: &'static #core::__private::str = #name;
                type State = #state;
                const TIMEOUTS: &'static [&'static [#core::__private::EventKind]] = TIMEOUTS;

                fn timeout_text(
                    stored: &#core::__private::EventData,
                ) -> #core::__private::Result<#core::__private::String, #core::__private::DecodeError> {
                    #(#texts)*
                    #core::__private::Result::Err(#core::__private::DecodeError::unknown_name(stored.name(), &TIMEOUTS.concat()))
                }

                fn filter(&self) -> #core::feed::EventFilter #filter

                // `Self::State` would report a missing `Clone` a second time.
                async fn handle(
                    &self,
                    event: &#core::__private::EventData,
                    ctx: &#core::EventContext,
                    reactor: &mut #core::process::Reactor<#state>,
                ) -> #core::__private::Result<(), #core::projection::ProjectError> {
                    #dispatch
                    #core::__private::Result::Ok(())
                }

                async fn time_out(
                    &self,
                    event: &#core::__private::EventData,
                    ctx: &#core::EventContext,
                    reactor: &mut #core::process::Reactor<#state>,
                ) -> #core::__private::Result<(), #core::projection::ProjectError> {
                    #(#due)*
                    let _ = (ctx, reactor);
                    #core::__private::Result::Err(#core::__private::no_timeout(event))
                }
            }

            #assertions
        };
    }
}
