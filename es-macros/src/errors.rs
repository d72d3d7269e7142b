//! All the mistakes of one item, reported at once.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// Collects mistakes while an item is read.
///
/// Dropped without [`finish`](Self::finish) it panics, so that no mistake is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    found: Vec<syn::Error>,
    finished: bool,
}

impl Errors {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A mistake at a place.
    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.found.push(syn::Error::new(span, message));
    }

    /// A mistake in something that was written.
    pub(crate) fn on(&mut self, tokens: &impl ToTokens, message: impl std::fmt::Display) {
        self.found.push(syn::Error::new_spanned(tokens, message));
    }

    /// A mistake that syn found.
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.found.push(error);
    }

    /// The value of a result; a mistake is kept, and there is no value.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Takes over the mistakes of a part; says whether there were none.
    pub(crate) fn absorb(&mut self, mut part: Self) -> bool {
        part.finished = true;
        let sound = part.found.is_empty();
        self.found.append(&mut part.found);
        sound
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The mistakes as one `compile_error!` each, nothing if there are none.
    pub(crate) fn finish(mut self) -> TokenStream {
        self.finished = true;
        let found = std::mem::take(&mut self.found);
        found.iter().map(syn::Error::to_compile_error).collect()
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        if !self.finished && !std::thread::panicking() {
            panic!("the mistakes that were found are not reported: call `finish`");
        }
    }
}
