//! The grammar of the attributes: `key`, `key = value` and `key(…)`, separated by commas.

use std::collections::HashSet;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Lit, LitStr, Path, Token, Type};

use crate::errors::Errors;

/// One key of an attribute, with what it was given.
pub(crate) struct Entry {
    pub(crate) key: Ident,
    value: Value,
}

enum Value {
    /// `key`
    None,
    /// `key = "…"`, `key = 5`
    Lit(Lit),
    /// `key = some::Type`
    Type(Box<Type>),
    /// `key(…)`
    List(TokenStream),
}

/// What an attribute may say: its keys, each with how to write it.
pub(crate) struct Grammar {
    /// How the attribute is written, for messages: `#[aggregate(…)]`.
    pub(crate) attribute: &'static str,
    /// The keys, each with an example.
    pub(crate) keys: &'static [(&'static str, &'static str)],
    /// The keys that may stand there more than once.
    pub(crate) repeatable: &'static [&'static str],
    /// Keys that are known, but belong somewhere else, each with where.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

impl Grammar {
    /// Reads the entries; what cannot be read is reported, and the rest is read all the same.
    pub(crate) fn parse(&self, tokens: TokenStream, errors: &mut Errors) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                match self.entry(input) {
                    Ok(entry) => entries.push(entry),
                    Err(error) => {
                        errors.push(error);
                        skip_to_comma(input);
                    }
                }
                if !input.is_empty()
                    && let Err(error) = input.parse::<Token![,]>()
                {
                    errors.push(error);
                    skip_to_comma(input);
                    let _ = input.parse::<Token![,]>();
                }
            }
            Ok(())
        };
        let parsed = parser.parse2(tokens);
        errors.keep(parsed);

        let given = |key: &str| entries.iter().any(|entry| entry.key.unraw() == key);
        let meant: Vec<_> = entries
            .iter()
            .map(|entry| {
                let key = entry.key.unraw().to_string();
                if self.knows(&key) {
                    return Some(key);
                }
                errors.at(entry.key.span(), self.unknown(&key));
                // Read as what was probably meant, so that it is not reported as missing as well.
                self.nearest(&key).filter(|meant| !given(meant)).map(str::to_owned)
            })
            .collect();
        let mut read = Vec::new();
        for (mut entry, key) in entries.into_iter().zip(meant) {
            let Some(key) = key else { continue };
            if !seen.insert(key.clone()) && !self.repeatable.contains(&key.as_str()) {
                errors.at(
                    entry.key.span(),
                    format!("`{key}` is given twice in `{}`: keep one of them", self.attribute),
                );
                continue;
            }
            if entry.key != key {
                entry.key = Ident::new(&key, entry.key.span());
            }
            read.push(entry);
        }
        read
    }

    fn knows(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| *known == key)
    }

    fn nearest(&self, key: &str) -> Option<&'static str> {
        nearest(key, self.keys.iter().map(|(known, _)| *known))
    }

    fn entry(&self, input: ParseStream<'_>) -> syn::Result<Entry> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected a key of `{}`: {}", self.attribute, self.list())));
        }
        let key = input.call(Ident::parse_any)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            if input.is_empty() || input.peek(Token![,]) {
                return Err(syn::Error::new(key.span(), self.how_to_write(&key)));
            }
            if input.peek(Lit) {
                Value::Lit(input.parse()?)
            } else {
                Value::Type(Box::new(input.parse().map_err(|_| input.error(self.how_to_write(&key)))?))
            }
        } else if input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in input);
            Value::List(content.parse()?)
        } else {
            Value::None
        };
        Ok(Entry { key, value })
    }

    fn unknown(&self, key: &str) -> String {
        if let Some((_, place)) = self.elsewhere.iter().find(|(known, _)| *known == key) {
            return format!("`{key}` does not belong into `{}`: {place}", self.attribute);
        }
        let suggestion =
            self.nearest(key).map_or_else(String::new, |nearest| format!(" (did you mean `{nearest}`?)"));
        format!("`{}` has no key `{key}`{suggestion}; known are {}", self.attribute, self.list())
    }

    fn list(&self) -> String {
        self.keys.iter().map(|(_, example)| format!("`{example}`")).collect::<Vec<_>>().join(", ")
    }

    /// How the key is to be written, as the end of a message.
    pub(crate) fn how_to_write(&self, key: &Ident) -> String {
        let name = key.unraw().to_string();
        match self.keys.iter().find(|(known, _)| *known == name) {
            Some((_, example)) => format!("`{name}` in `{}` is written `{example}`", self.attribute),
            None => self.unknown(&name),
        }
    }
}

impl Entry {
    /// The text of `key = "…"`.
    pub(crate) fn text(&self, grammar: &Grammar, errors: &mut Errors) -> Option<LitStr> {
        match &self.value {
            Value::Lit(Lit::Str(text)) => Some(text.clone()),
            _ => self.mistaken(grammar, errors),
        }
    }

    /// The number of `key = 5`, with its place.
    pub(crate) fn number(&self, grammar: &Grammar, errors: &mut Errors) -> Option<(u32, Span)> {
        match &self.value {
            Value::Lit(Lit::Int(number)) => match number.base10_parse() {
                Ok(value) => Some((value, number.span())),
                Err(_) => self.mistaken(grammar, errors),
            },
            _ => self.mistaken(grammar, errors),
        }
    }

    /// The type of `key = some::Type`.
    pub(crate) fn ty(&self, grammar: &Grammar, errors: &mut Errors) -> Option<Type> {
        match &self.value {
            Value::Type(ty) => Some((**ty).clone()),
            _ => self.mistaken(grammar, errors),
        }
    }

    /// The path of `key = some::path`.
    pub(crate) fn path(&self, grammar: &Grammar, errors: &mut Errors) -> Option<Path> {
        match self.type_path() {
            Some(path) => Some(path.clone()),
            None => self.mistaken(grammar, errors),
        }
    }

    /// The identifier of `key = Name`.
    pub(crate) fn ident(&self, grammar: &Grammar, errors: &mut Errors) -> Option<Ident> {
        match self.type_path().and_then(Path::get_ident) {
            Some(ident) => Some(ident.clone()),
            None => self.mistaken(grammar, errors),
        }
    }

    fn type_path(&self) -> Option<&Path> {
        match &self.value {
            Value::Type(ty) => match &**ty {
                Type::Path(ty) if ty.qself.is_none() => Some(&ty.path),
                _ => None,
            },
            _ => None,
        }
    }

    /// The parts of `key(a, b)`.
    pub(crate) fn list<T: syn::parse::Parse>(
        &self,
        grammar: &Grammar,
        errors: &mut Errors,
    ) -> Option<Vec<T>> {
        match &self.value {
            Value::List(tokens) => {
                let parser = Punctuated::<T, Token![,]>::parse_terminated;
                match parser.parse2(tokens.clone()) {
                    Ok(list) => Some(list.into_iter().collect()),
                    Err(error) => {
                        errors.at(error.span(), grammar.how_to_write(&self.key));
                        None
                    }
                }
            }
            _ => self.mistaken(grammar, errors),
        }
    }

    /// Whether it is the key alone.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.value, Value::None)
    }

    /// Whether it is written `key(…)`.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, Value::List(_))
    }

    /// The tokens of `key(…)`.
    pub(crate) fn nested(&self, grammar: &Grammar, errors: &mut Errors) -> Option<TokenStream> {
        match &self.value {
            Value::List(tokens) => Some(tokens.clone()),
            _ => self.mistaken(grammar, errors),
        }
    }

    fn mistaken<T>(&self, grammar: &Grammar, errors: &mut Errors) -> Option<T> {
        let span = match &self.value {
            Value::None => self.key.span(),
            Value::Lit(lit) => lit.span(),
            Value::Type(ty) => ty.span(),
            Value::List(tokens) if tokens.is_empty() => self.key.span(),
            Value::List(tokens) => tokens.to_token_stream().span(),
        };
        errors.at(span, grammar.how_to_write(&self.key));
        None
    }
}

/// Adds the entries of a further attribute.
pub(crate) fn append(tokens: &mut TokenStream, more: TokenStream) {
    let last = tokens.clone().into_iter().last();
    let open = |token| !matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    if last.is_some_and(open) {
        tokens.extend(quote!(,));
    }
    tokens.extend(more);
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}

/// The known name that was most likely meant.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    known
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 2).clamp(1, 3))
        .min()
        .map(|(_, known)| known)
}

/// How many letters have to be changed, added, left out or swapped with the next one.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<_>>()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let changed = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = || ["name", "id", "events", "event", "snapshot"].into_iter();
        assert_eq!(nearest("nmae", known()), Some("name"));
        assert_eq!(nearest("evnets", known()), Some("events"));
        assert_eq!(nearest("snapshots", known()), Some("snapshot"));
        assert_eq!(nearest("colour", known()), None);
    }
}
