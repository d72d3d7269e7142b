//! `#[derive(Aggregate)]`: from a state to an implementation of `Aggregate`.

mod attributes;
mod events;
mod expand;
mod fingerprint;
mod members;

use proc_macro2::TokenStream;
use syn::{Data, DeriveInput};

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
                "the aggregate `{}` cannot be generic: its name and its events belong to one type; \
                 write a struct of its own for each case, and `String` for `&str`",
                item.ident
            ),
        );
    }
    if let Data::Union(data) = &item.data {
        errors.on(
            &data.union_token,
            format!("the aggregate `{}` cannot be a union: write a struct or an enum", item.ident),
        );
    }
    let sound = errors.is_empty();
    let attributes = Attributes::read(&item, &mut errors);
    let mut output = errors.finish();
    // What could be understood is generated in spite of mistakes, so that each is reported once and not
    // again wherever the type is used.
    if sound {
        output.extend(expand::expand(&item, &attributes));
    }
    output
}
