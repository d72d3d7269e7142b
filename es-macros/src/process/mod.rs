//! `#[derive(Process)]`: from a list of events to an implementation of `Process`.

mod attributes;
mod expand;

use proc_macro2::TokenStream;

use crate::errors::Errors;
use crate::sources;
use attributes::Attributes;

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let Some(item) = sources::parse(item, "process", &mut errors) else { return errors.finish() };
    let attributes = Attributes::read(&item, &mut errors);
    let mut output = errors.finish();
    // Without its state there is nothing that could be generated.
    if let Some(attributes) = attributes.filter(|_| item.generics.params.is_empty()) {
        output.extend(expand::expand(&item, &attributes));
    }
    output
}
