//! `#[derive(Projection)]` and `#[derive(Process)]`: consumers of the feed, which dispatch the events of several
//! aggregates to handlers.
//!
//! Both have a name and a list of events: `sources` reads the list, and `dispatch` generates the code for it.
//! `projection` and `process` contain the differences.

mod dispatch;
mod process;
mod projection;
mod sources;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Path};

use crate::support::derive::{Helper, refuse_generics, valid_name};
use crate::support::errors::Errors;
use crate::support::grammar::Keys;
use sources::Source;

pub(crate) fn projection(item: TokenStream) -> TokenStream {
    expand(item, "projection", projection::expand)
}

pub(crate) fn process(item: TokenStream) -> TokenStream {
    expand(item, "process", process::expand)
}

/// Parses the item, and expands it. `what` is its noun in messages.
fn expand(
    item: TokenStream,
    what: &str,
    expand: impl Fn(&DeriveInput, &mut Errors) -> TokenStream,
) -> TokenStream {
    let mut errors = Errors::new();
    let Some(item) = errors.keep(syn::parse2::<DeriveInput>(item)) else { return errors.finish() };
    refuse_generics(
        what,
        &item,
        "its checkpoints belong to one type: put the varying part behind an `Arc<dyn …>`",
        &mut errors,
    );
    // A consumer with mistakes is still generated, so that they are not reported again wherever it is used.
    let expansion = expand(&item, &mut errors);
    let errors = errors.finish();
    quote!(#errors #expansion)
}

/// The keys that projections and processes have in common.
struct Consumer {
    core: Path,
    name: String,
    sources: Vec<Source>,
}

impl Consumer {
    /// Reads the attribute, and reports the required keys that are missing.
    fn read(
        helper: &'static Helper,
        required: &[(&str, &str)],
        item: &DeriveInput,
        errors: &mut Errors,
    ) -> (Self, Keys) {
        let keys = helper.read(item, errors);
        if let Some(keys) = &keys {
            helper.require(keys, required, item, errors);
        }
        let keys = keys.unwrap_or_default();
        let name = keys.get("name").and_then(|entry| entry.text(errors));
        let what = format!("a {}", helper.name);
        let name = name.map(|name| valid_name(&name, &what, errors)).unwrap_or_default();
        let sources = keys.get("events").map(|entry| sources::read(entry, errors)).unwrap_or_default();
        (Self { core: keys.core(errors), name, sources }, keys)
    }

    /// Returns the events, each once.
    fn events(&self) -> Vec<Path> {
        sources::distinct(self.sources.iter().flat_map(|source| &source.events))
    }
}
