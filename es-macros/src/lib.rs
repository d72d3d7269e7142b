//! stub
use proc_macro::TokenStream;
/// stub
#[proc_macro_attribute]
pub fn event(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}
/// stub
#[proc_macro_derive(Aggregate, attributes(aggregate))]
pub fn aggregate(_: TokenStream) -> TokenStream {
    TokenStream::new()
}
