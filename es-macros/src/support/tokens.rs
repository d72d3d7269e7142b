//! Tokens as text, and without the invisible groups of macros.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Type, TypeTuple};

/// Returns tokens as text, independent of their whitespace and line breaks.
pub(crate) fn text(tokens: &impl ToTokens) -> String {
    let mut result = String::new();
    write(tokens.to_token_stream(), &mut result);
    result
}

fn write(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => write_group(&group, text),
            TokenTree::Punct(punct) if punct.as_char() == ',' => text.push_str(", "),
            TokenTree::Punct(punct) if punct.as_char() == ';' => text.push_str("; "),
            TokenTree::Punct(punct) => {
                // A list on several lines has a trailing comma.
                if punct.as_char() == '>' && text.ends_with(", ") {
                    text.truncate(text.len() - 2);
                }
                text.push(punct.as_char());
            }
            other => {
                if text.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    text.push(' ');
                }
                text.push_str(&other.to_string());
            }
        }
    }
}

fn write_group(group: &Group, text: &mut String) {
    let (open, close) = match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    };
    let mut inner = String::new();
    write(group.stream(), &mut inner);
    if inner.ends_with(", ") {
        // A trailing comma has a meaning only in a tuple of one.
        inner.truncate(inner.len() - if is_tuple_of_one(group) { 1 } else { 2 });
    }
    text.push_str(open);
    text.push_str(&inner);
    text.push_str(close);
}

fn is_tuple_of_one(group: &Group) -> bool {
    let tuple = syn::parse2::<TypeTuple>(TokenTree::from(group.clone()).into());
    tuple.is_ok_and(|tuple| tuple.elems.len() == 1)
}

/// Removes parentheses, and the invisible groups around a type that a macro substituted.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(group) => ungrouped(&group.elem),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_depend_on_line_breaks() {
        let text = |source: &str| text(&syn::parse_str::<Type>(source).expect("a type"));
        assert_eq!(text("BTreeMap<\n String,\n (u8, u8,),\n>"), "BTreeMap<String, (u8, u8)>");
        assert_eq!(text("(BTreeMap<u8 , u8>,)"), "(BTreeMap<u8, u8>,)");
        assert_eq!(text("[ Option<&'static str> ; 4 ]"), "[Option<&'static str>; 4]");
    }
}
