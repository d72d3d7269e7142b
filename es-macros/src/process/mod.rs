//! `#[derive(Process)]`: from a list of events to an implementation of `Process`.

mod attributes;
mod expand;

use proc_macro2::TokenStream;
use syn::DeriveInput;

use crate::errors::Errors;
use attributes::Attributes;

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut errors = Errors::new();
    let item = match syn::parse2::<DeriveInput>(item) {
        Ok(item) => item,
        Err(error) => {
            errors.push(error);
            return errors.finish();
        }
    };
    if !item.generics.params.is_empty() {
        errors.on(
            &item.generics,
            format!(
                "the process `{}` cannot be generic: its checkpoints belong to one type; put what varies \
                 behind an `Arc<dyn …>`",
                item.ident
            ),
        );
    }
    let attributes = Attributes::read(&item, &mut errors);
    let mut output = errors.finish();
    // Without its state there is nothing that could be generated.
    if let Some(attributes) = attributes.filter(|_| item.generics.params.is_empty()) {
        output.extend(expand::expand(&item, &attributes));
    }
    output
}
