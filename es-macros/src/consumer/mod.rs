//! `#[derive(Projection)]` and `#[derive(Process)]`: consumers of the feed, which dispatch the events of several
//! aggregates to handlers.
//!
//! Both have a name and a list of events: `sources` reads the list, and `dispatch` generates the code for it.
//! `projection` and `process` add what is particular to them.

mod dispatch;
mod process;
mod projection;
mod sources;

use proc_macro2::TokenStream;
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
    let is_generic = !errors.is_empty();
    let expansion = expand(&item, &mut errors);
    let mut output = errors.finish();
    // A consumer with other mistakes is still generated, so that they are not reported again wherever it is used.
    if !is_generic {
        output.extend(expansion);
    }
    output
}

/// The keys that projections and processes have in common.
struct Consumer {
    core: Path,
    name: String,
    sources: Vec<Source>,
}

impl Consumer {
    fn read(helper: &Helper, keys: &Keys, errors: &mut Errors) -> Self {
        let name = keys.get("name").and_then(|entry| entry.text(errors));
        let what = format!("a {}", helper.name);
        let name = name.map(|name| valid_name(&name, &what, errors)).unwrap_or_default();
        let sources = keys.get("events").map(|entry| sources::read(entry, errors)).unwrap_or_default();
        Self { core: keys.core(errors), name, sources }
    }

    /// Returns the events, each once.
    fn events(&self) -> Vec<Path> {
        sources::distinct(self.sources.iter().flat_map(|source| &source.events))
    }
}
