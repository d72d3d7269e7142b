//! Shared code of the derives: the item, its attribute, and its stored name.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;
use syn::{DeriveInput, LitStr, Meta};

use super::errors::Errors;
use super::grammar::{Grammar, Keys};

/// The attribute of a derive, such as `#[aggregate(…)]`.
pub(crate) struct Helper {
    /// The attribute's name, which messages use for the item, too.
    pub(crate) name: &'static str,
    /// The keys that are required.
    pub(crate) example: &'static str,
    pub(crate) grammar: Grammar,
}

impl Helper {
    /// Reads the attribute. Returns `None` after reporting that there is none, or that it has no keys.
    pub(crate) fn read(&'static self, item: &DeriveInput, errors: &mut Errors) -> Option<Keys> {
        let Self { name, example, .. } = self;
        let mut found = None;
        for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident(name)) {
            let Meta::List(list) = &attribute.meta else {
                errors.on(attribute, format!("`#[{name}]` has no keys: write `#[{name}({example})]`"));
                return None;
            };
            if found.is_some() {
                errors.on(attribute, format!("`#[{name}(…)]` is given twice: put all keys into one"));
            }
            append(found.get_or_insert_default(), list.tokens.clone());
        }
        if found.is_none() {
            errors.on(
                &item.ident,
                format!(
                    "the {name} `{}` lacks its attribute: write `#[{name}({example})]` below the derive",
                    item.ident
                ),
            );
        }
        Some(self.grammar.parse(found?, errors))
    }

    /// Reports each required key that is missing, with a description.
    pub(crate) fn require(
        &self,
        keys: &Keys,
        required: &[(&str, &str)],
        item: &DeriveInput,
        errors: &mut Errors,
    ) {
        for (key, description) in required.iter().filter(|(key, _)| keys.get(key).is_none()) {
            self.missing(key, description, self.grammar.example(key), item, errors);
        }
    }

    /// Reports that a required key is missing.
    pub(crate) fn missing(
        &self,
        key: &str,
        description: &str,
        example: &str,
        item: &DeriveInput,
        errors: &mut Errors,
    ) {
        let Self { name, .. } = self;
        errors.on(
            &item.ident,
            format!(
                "the {name} `{}` has no `{key}`, {description}: add `{example}` to `#[{name}(…)]`",
                item.ident
            ),
        );
    }
}

/// Reports that the item is generic. `reason` says why it cannot be, and what to write.
pub(crate) fn refuse_generics(what: &str, item: &DeriveInput, reason: &str, errors: &mut Errors) {
    if !item.generics.params.is_empty() {
        errors.on(&item.generics, format!("the {what} `{}` cannot be generic, because {reason}", item.ident));
    }
}

/// Checks the name under which an item is stored: the rules of `StreamId::new`, for read models and checkpoints too.
pub(crate) fn valid_name(name: &LitStr, what: &str, errors: &mut Errors) -> String {
    let text = name.value();
    let wrong = if text.is_empty() {
        Some("be empty")
    } else if text.contains('#') {
        Some("contain `#`, which separates the parts of stored keys")
    } else if text.starts_with('$') {
        Some("start with `$`, which is reserved for the framework")
    } else if text.len() > 100 {
        Some("be longer than 100 bytes")
    } else if text.chars().any(char::is_control) {
        Some("contain control characters")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        errors.at(
            name.span(),
            format!("the name of {what} cannot {wrong}: write a name as in `name = \"order\"`"),
        );
    }
    text
}

/// Appends the keys of another attribute.
pub(crate) fn append(tokens: &mut TokenStream, more: TokenStream) {
    let last = tokens.clone().into_iter().last();
    let is_open = |token| !matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    if last.is_some_and(is_open) {
        tokens.extend(quote!(,));
    }
    tokens.extend(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn error_of(name: &str) -> String {
        let mut errors = Errors::new();
        let name = LitStr::new(name, proc_macro2::Span::call_site());
        valid_name(&name, "an aggregate", &mut errors);
        errors.finish().to_string()
    }

    #[test]
    fn checks_stored_names() {
        for valid in ["order", "Bestellung-Ü", &"x".repeat(100)] {
            assert_eq!(error_of(valid), "");
        }
        let invalid = [
            ("", "be empty"),
            ("bank#account", "contain `#`"),
            ("$feed", "start with `$`"),
            (&"x".repeat(101), "be longer than 100 bytes"),
            ("a\u{1}b", "contain control characters"),
        ];
        for (name, message) in invalid {
            let error = error_of(name);
            assert!(error.contains(&format!("the name of an aggregate cannot {message}")), "{error}");
        }
    }

    #[test]
    fn joins_attributes_with_commas() {
        let mut tokens = TokenStream::new();
        append(&mut tokens, quote!(a = 1));
        append(&mut tokens, quote!(b = 2,));
        append(&mut tokens, quote!(c));
        let expected: TokenStream = parse_quote!(a = 1, b = 2, c);
        assert_eq!(tokens.to_string(), expected.to_string());
    }
}
