//! `#[derive(Projection)]`: from a list of events to an implementation of `Projection`.

mod attributes;
mod expand;

use proc_macro2::TokenStream;

use crate::errors::Errors;
use crate::sources;
use attributes::Attributes;

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let Some(item) = sources::parse(item, "projection", &mut errors) else { return errors.finish() };
    let sound = errors.is_empty();
    let attributes = Attributes::read(&item, &mut errors);
    let mut output = errors.finish();
    if sound {
        output.extend(expand::expand(&item, &attributes));
    }
    output
}
