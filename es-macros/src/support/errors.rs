//! Collects the mistakes of an item.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// The mistakes that are found while an item is read, to be reported together.
///
/// Panics when dropped without [`finish`](Self::finish), so that all mistakes are reported.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    found: Vec<syn::Error>,
    finished: bool,
}

impl Errors {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a mistake at a place.
    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.found.push(syn::Error::new(span, message));
    }

    /// Adds a mistake that spans the tokens.
    pub(crate) fn on(&mut self, tokens: &impl ToTokens, message: impl std::fmt::Display) {
        self.found.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds a mistake reported by syn.
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.found.push(error);
    }

    /// Returns the value of a result, or `None` after adding its error.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Adds the mistakes of a part. Returns whether it had none.
    pub(crate) fn absorb(&mut self, mut part: Self) -> bool {
        part.finished = true;
        let is_valid = part.found.is_empty();
        self.found.append(&mut part.found);
        is_valid
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns one `compile_error!` for each mistake.
    pub(crate) fn finish(mut self) -> TokenStream {
        self.finished = true;
        let found = std::mem::take(&mut self.found);
        found.iter().map(syn::Error::to_compile_error).collect()
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        if !self.finished && !std::thread::panicking() {
            panic!("mistakes were collected but not reported: call `finish`");
        }
    }
}
