//! The grammar of attributes: `key`, `key = value`, and `key(…)`, separated by commas.

use std::collections::HashSet;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprClosure, Lit, LitStr, Path, Token, Type, parse_quote};

use super::errors::Errors;
use super::tokens::ungrouped;

/// The keys that an attribute may have, each with an example.
pub(crate) struct Grammar {
    /// The attribute as messages name it, with its backticks: "`#[aggregate(…)]`".
    pub(crate) attribute: &'static str,
    /// The keys and their examples.
    pub(crate) keys: &'static [(&'static str, &'static str)],
    /// The keys that may be repeated.
    pub(crate) repeatable: &'static [&'static str],
    /// Keys of a related attribute, each with advice on where to put it.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

impl Grammar {
    /// A grammar whose keys may each be given once.
    pub(crate) const fn new(attribute: &'static str, keys: &'static [(&'static str, &'static str)]) -> Self {
        Self { attribute, keys, repeatable: &[], elsewhere: &[] }
    }

    /// Parses the keys of an attribute. Reports mistakes, and continues with the other keys.
    pub(crate) fn parse(&'static self, tokens: TokenStream, errors: &mut Errors) -> Keys {
        let mut entries = Vec::new();
        for mut entry in self.entries(tokens, errors) {
            let mut key = entry.key.unraw().to_string();
            if !self.knows(&key) {
                errors.at(entry.key.span(), self.unknown(&key));
                // Treated as the key that was probably meant, so that this key is not reported as missing.
                let Some(nearest) = self.nearest(&key) else { continue };
                key = nearest.to_owned();
                entry.is_guess = true;
            }
            entry.key = Ident::new(&key, entry.key.span());
            entries.push(entry);
        }
        let given: HashSet<String> =
            entries.iter().filter(|entry| !entry.is_guess).map(|entry| entry.key.to_string()).collect();
        entries.retain(|entry| !entry.is_guess || !given.contains(&entry.key.to_string()));

        let mut seen = HashSet::new();
        entries.retain(|entry| {
            let key = entry.key.to_string();
            let is_repeated = !seen.insert(key.clone()) && !self.repeatable.contains(&key.as_str());
            if is_repeated {
                errors.at(
                    entry.key.span(),
                    format!("`{key}` is given twice in {}: remove one", self.attribute),
                );
            }
            !is_repeated
        });
        Keys(entries)
    }

    /// Parses all well-formed entries, with any keys.
    fn entries(&'static self, tokens: TokenStream, errors: &mut Errors) -> Vec<Entry> {
        let mut entries = Vec::new();
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
        entries
    }

    fn entry(&'static self, input: ParseStream<'_>) -> syn::Result<Entry> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected a key of {}, one of {}", self.attribute, self.list())));
        }
        let key = input.call(Ident::parse_any)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            if input.is_empty() || input.peek(Token![,]) {
                return Err(syn::Error::new(key.span(), self.malformed(&key)));
            }
            if input.peek(Lit) {
                Value::Lit(input.parse()?)
            } else if input.peek(Token![|]) || input.peek(Token![move]) {
                Value::Closure(input.parse()?)
            } else {
                Value::Type(Box::new(input.parse().map_err(|_| input.error(self.malformed(&key)))?))
            }
        } else if input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in input);
            Value::List(content.parse()?)
        } else {
            Value::None
        };
        Ok(Entry { key, value, grammar: self, is_guess: false })
    }

    fn knows(&self, key: &str) -> bool {
        self.keys.iter().any(|(known, _)| *known == key)
    }

    fn nearest(&self, key: &str) -> Option<&'static str> {
        nearest(key, 3, self.keys.iter().map(|(known, _)| *known))
    }

    fn unknown(&self, key: &str) -> String {
        if let Some((_, advice)) = self.elsewhere.iter().find(|(known, _)| *known == key) {
            return format!("`{key}` is not a key of {}: {advice}", self.attribute);
        }
        let suggestion =
            self.nearest(key).map_or_else(String::new, |nearest| format!(" (did you mean `{nearest}`?)"));
        format!("unknown key `{key}` in {}{suggestion}: the keys are {}", self.attribute, self.list())
    }

    fn malformed(&self, key: &Ident) -> String {
        let key = key.unraw().to_string();
        match self.knows(&key) {
            true => {
                format!("malformed `{key}` in {}: write it as in `{}`", self.attribute, self.example(&key))
            }
            false => self.unknown(&key),
        }
    }

    /// Returns the example of a key.
    pub(crate) fn example(&self, key: &str) -> &'static str {
        self.keys.iter().find(|(known, _)| *known == key).map_or("", |(_, example)| example)
    }

    fn list(&self) -> String {
        self.keys.iter().map(|(_, example)| format!("`{example}`")).collect::<Vec<_>>().join(", ")
    }
}

/// The entries of an attribute: known keys, and each once unless it is repeatable.
#[derive(Default)]
pub(crate) struct Keys(Vec<Entry>);

impl Keys {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.all(key).next()
    }

    /// Returns the entries of a key that may be repeated.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.key == key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Returns the path of `crate = path`, `::es_core` by default.
    pub(crate) fn core(&self, errors: &mut Errors) -> Path {
        let path = self.get("crate").and_then(|entry| entry.path(errors));
        path.unwrap_or_else(|| parse_quote!(::es_core))
    }
}

/// One key of an attribute with its value.
pub(crate) struct Entry {
    pub(crate) key: Ident,
    value: Value,
    grammar: &'static Grammar,
    /// Whether another key was written, which was reported.
    is_guess: bool,
}

enum Value {
    /// `key`
    None,
    /// `key = "…"`, `key = 5`
    Lit(Lit),
    /// `key = some::Type`
    Type(Box<Type>),
    /// `key = |event| …`
    Closure(ExprClosure),
    /// `key(…)`
    List(TokenStream),
}

impl Entry {
    /// Returns the text of `key = "…"`.
    pub(crate) fn text(&self, errors: &mut Errors) -> Option<LitStr> {
        match &self.value {
            Value::Lit(Lit::Str(text)) => Some(text.clone()),
            _ => self.malformed(errors),
        }
    }

    /// Returns the number of `key = 5`, and its place.
    pub(crate) fn number(&self, errors: &mut Errors) -> Option<(u32, Span)> {
        match &self.value {
            Value::Lit(Lit::Int(number)) => match number.base10_parse() {
                Ok(value) => Some((value, number.span())),
                Err(_) => self.malformed(errors),
            },
            _ => self.malformed(errors),
        }
    }

    /// Returns the type of `key = some::Type`.
    pub(crate) fn ty(&self, errors: &mut Errors) -> Option<Type> {
        match &self.value {
            Value::Type(ty) => Some((**ty).clone()),
            _ => self.malformed(errors),
        }
    }

    /// Returns the path of `key = some::path`.
    pub(crate) fn path(&self, errors: &mut Errors) -> Option<Path> {
        match self.type_path() {
            Some(path) => Some(path.clone()),
            None => self.malformed(errors),
        }
    }

    /// Returns the identifier of `key = Name`.
    pub(crate) fn ident(&self, errors: &mut Errors) -> Option<Ident> {
        match self.type_path().and_then(Path::get_ident) {
            Some(ident) => Some(ident.clone()),
            None => self.malformed(errors),
        }
    }

    /// Returns the function of `key = some::path` or `key = |…| …`.
    pub(crate) fn function(&self, errors: &mut Errors) -> Option<Expr> {
        match &self.value {
            Value::Closure(closure) => Some(Expr::Closure(closure.clone())),
            _ => self.path(errors).map(|path| parse_quote!(#path)),
        }
    }

    fn type_path(&self) -> Option<&Path> {
        match &self.value {
            Value::Type(ty) => match ungrouped(ty) {
                Type::Path(ty) if ty.qself.is_none() => Some(&ty.path),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the parts of `key(a, b)`.
    pub(crate) fn list<T: Parse>(&self, errors: &mut Errors) -> Option<Vec<T>> {
        let tokens = self.nested(errors)?;
        let parser = Punctuated::<T, Token![,]>::parse_terminated;
        match parser.parse2(tokens) {
            Ok(list) => Some(list.into_iter().collect()),
            Err(error) => {
                errors.at(error.span(), self.malformed_message());
                None
            }
        }
    }

    /// Returns the tokens of `key(…)`.
    pub(crate) fn nested(&self, errors: &mut Errors) -> Option<TokenStream> {
        match &self.value {
            Value::List(tokens) => Some(tokens.clone()),
            _ => self.malformed(errors),
        }
    }

    /// Returns whether the key has no value.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.value, Value::None)
    }

    /// Returns whether the entry has the form `key(…)`.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, Value::List(_))
    }

    /// Reports that the value does not have the form that the grammar's example shows.
    fn malformed<T>(&self, errors: &mut Errors) -> Option<T> {
        let span = match &self.value {
            Value::None => self.key.span(),
            Value::Lit(lit) => lit.span(),
            Value::Type(ty) => ty.span(),
            Value::Closure(closure) => closure.span(),
            Value::List(tokens) if tokens.is_empty() => self.key.span(),
            Value::List(tokens) => tokens.to_token_stream().span(),
        };
        errors.at(span, self.malformed_message());
        None
    }

    /// Returns the message that shows how to write the entry.
    pub(crate) fn malformed_message(&self) -> String {
        self.grammar.malformed(&self.key)
    }
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}

/// Returns the known name that was probably meant, with at most `limit` typing errors.
pub(crate) fn nearest(
    name: &str,
    limit: usize,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    known
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 2).clamp(1, limit))
        .min()
        .map(|(_, known)| known)
}

/// Returns the edit distance: the number of letters that must be changed, added, removed, or swapped with the next one.
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
    fn suggests_the_nearest_name() {
        let known = || ["name", "id", "events", "event", "snapshot"].into_iter();
        assert_eq!(nearest("nmae", 3, known()), Some("name"));
        assert_eq!(nearest("evnets", 3, known()), Some("events"));
        assert_eq!(nearest("snapshots", 3, known()), Some("snapshot"));
        assert_eq!(nearest("color", 3, known()), None);
    }
}
