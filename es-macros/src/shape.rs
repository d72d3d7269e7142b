//! What serde makes of a type: the names of its fields in JSON, and the attributes that decide on it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Attribute, Field, Fields, LitStr, Meta, Path, Token, Type, Variant};

/// What `#[serde(…)]` says about a container or a field, as far as shapes are concerned.
#[derive(Default)]
pub(crate) struct SerdeAttributes {
    pub(crate) rename: Option<String>,
    rename_all: Option<String>,
    rename_all_fields: Option<String>,
    /// Neither written nor read.
    pub(crate) skipped: bool,
    pub(crate) has_crate: bool,
    /// The keys that change how an enum is represented, as written.
    pub(crate) representation: Vec<syn::Ident>,
}

impl SerdeAttributes {
    pub(crate) fn of(attributes: &[Attribute]) -> Self {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            // What serde cannot read, serde reports.
            let _ = attribute.parse_nested_meta(|meta| {
                let Some(key) = meta.path.get_ident() else { return skip_value(meta.input) };
                match key.to_string().as_str() {
                    "rename" => {
                        found.representation.push(key.clone());
                        found.rename = text_value(meta.input)?;
                    }
                    "rename_all" => {
                        found.representation.push(key.clone());
                        found.rename_all = text_value(meta.input)?;
                    }
                    "rename_all_fields" => found.rename_all_fields = text_value(meta.input)?,
                    "skip" => found.skipped = true,
                    "crate" => {
                        found.has_crate = true;
                        skip_value(meta.input)?;
                    }
                    "tag" | "content" | "untagged" | "other" | "transparent" | "into" | "from"
                    | "try_from" => {
                        found.representation.push(key.clone());
                        skip_value(meta.input)?;
                    }
                    _ => skip_value(meta.input)?,
                }
                Ok(())
            });
        }
        found
    }
}

fn skip_value(input: syn::parse::ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<proc_macro2::TokenTree>()?;
    }
    Ok(())
}

/// The text of `= "…"`, or of `(serialize = "…", …)`.
fn text_value(input: syn::parse::ParseStream<'_>) -> syn::Result<Option<String>> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        return Ok(Some(input.parse::<LitStr>()?.value()));
    }
    let content;
    syn::parenthesized!(content in input);
    let mut text = None;
    while !content.is_empty() {
        let direction: syn::Ident = content.parse()?;
        content.parse::<Token![=]>()?;
        let value: LitStr = content.parse()?;
        if direction == "serialize" {
            text = Some(value.value());
        }
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(text)
}

/// A type with what serde's attributes say of a field: its alias, its default, how it is encoded. All of it decides on
/// what stored data is read as.
pub(crate) fn with_attributes(ty: &impl ToTokens, attributes: &[Attribute]) -> String {
    let is_shape = |attribute: &String| {
        // The name stands beside the type.
        !["rename=\"", "bound", "borrow"].iter().any(|other| attribute.starts_with(other))
    };
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let parts =
        serde.filter_map(|attribute| attribute.meta.require_list().ok()).flat_map(|list| parts(&list.tokens));
    let mut found: Vec<String> = parts.filter(is_shape).collect();
    found.sort_unstable();
    match found.is_empty() {
        true => text(ty),
        false => format!("{} #[serde({})]", text(ty), found.join(", ")),
    }
}

/// The parts of a list, between its commas.
fn parts(tokens: &TokenStream) -> Vec<String> {
    let is_comma = |token: &proc_macro2::TokenTree| matches!(token, proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ',');
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let parts = tokens.split(is_comma).filter(|part| !part.is_empty());
    parts.map(|part| text(&part.iter().cloned().collect::<TokenStream>())).collect()
}

/// What serde's attributes say of the form of a whole type, as written; where its own parts are is not said.
pub(crate) fn representation(attributes: &[Attribute]) -> Vec<String> {
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let forms =
        serde.filter_map(|attribute| attribute.meta.require_list().ok()).map(|list| text(&list.tokens));
    forms.filter(|form| !form.starts_with("crate")).collect()
}

/// The fields as they stand in JSON: name and type, with attributes. What serde skips is left out.
pub(crate) fn json_fields(fields: &Fields, container: &SerdeAttributes) -> Vec<(String, String)> {
    let name = |index: usize, field: &Field, own: &SerdeAttributes| match (&own.rename, &field.ident) {
        (Some(rename), _) => rename.clone(),
        (None, Some(ident)) => rename_field(&ident.unraw().to_string(), container.rename_all.as_deref()),
        (None, None) => index.to_string(),
    };
    fields
        .iter()
        .enumerate()
        .map(|(index, field)| (index, field, SerdeAttributes::of(&field.attrs)))
        .filter(|(_, _, own)| !own.skipped)
        .map(|(index, field, own)| (name(index, field, &own), with_attributes(&field.ty, &field.attrs)))
        .collect()
}

/// The types of the fields that stand in JSON.
pub(crate) fn json_types(fields: &Fields) -> Vec<Type> {
    let stored = fields.iter().filter(|field| !SerdeAttributes::of(&field.attrs).skipped);
    stored.map(|field| field.ty.clone()).collect()
}

/// Code that adds what `types` are made of to `types`, as far as they have a schema.
pub(crate) fn describe(core: &Path, types: &[Type]) -> TokenStream {
    quote! {
        {
            #[allow(unused_imports)] // which of the two is used depends on the types
            use #core::__private::{DescribeNothing as _, DescribeSchema as _};
            #((&#core::__private::Probe::<#types>::new()).describe(types);)*
        }
    }
}

/// The fields of an enum's variant, the same.
pub(crate) fn json_fields_of_variant(
    variant: &Variant,
    container: &SerdeAttributes,
) -> Vec<(String, String)> {
    let mut own = SerdeAttributes::of(&variant.attrs);
    own.rename_all = own.rename_all.or_else(|| container.rename_all_fields.clone());
    json_fields(&variant.fields, &own)
}

/// Tokens as text, the same however they were spaced.
pub(crate) fn text(tokens: &impl ToTokens) -> String {
    fn write(tokens: TokenStream, text: &mut String) {
        use proc_macro2::{Delimiter, TokenTree};
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    let mut inner = String::new();
                    write(group.stream(), &mut inner);
                    if inner.ends_with(", ") {
                        // It says something only in a tuple of one.
                        inner.truncate(inner.len() - if is_tuple_of_one(&group) { 1 } else { 2 });
                    }
                    text.push_str(open);
                    text.push_str(&inner);
                    text.push_str(close);
                }
                TokenTree::Punct(punct) if punct.as_char() == ',' => text.push_str(", "),
                TokenTree::Punct(punct) if punct.as_char() == ';' => text.push_str("; "),
                TokenTree::Punct(punct) => {
                    // A list that is broken into lines has a comma at its end.
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
    let mut result = String::new();
    write(tokens.to_token_stream(), &mut result);
    result
}

fn is_tuple_of_one(group: &proc_macro2::Group) -> bool {
    let tuple = syn::parse2::<syn::TypeTuple>(proc_macro2::TokenTree::from(group.clone()).into());
    tuple.is_ok_and(|tuple| tuple.elems.len() == 1)
}

/// A field's name by one of serde's `rename_all` rules; fields are in snake case as Rust has them.
fn rename_field(name: &str, rule: Option<&str>) -> String {
    let words = || name.split('_').map(str::to_owned).collect::<Vec<_>>();
    let capital = |word: &String| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect::<String>())
    };
    match rule {
        Some("UPPERCASE" | "SCREAMING_SNAKE_CASE") => name.to_uppercase(),
        Some("PascalCase") => words().iter().map(capital).collect(),
        Some("camelCase") => {
            let pascal: String = words().iter().map(capital).collect();
            let mut letters = pascal.chars();
            letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
        }
        Some("kebab-case") => name.replace('_', "-"),
        Some("SCREAMING-KEBAB-CASE") => name.to_uppercase().replace('_', "-"),
        _ => name.to_owned(),
    }
}

/// The derives that are written on the item itself, by their last names.
pub(crate) fn derives(attributes: &[Attribute]) -> Vec<String> {
    let mut names = Vec::new();
    for attribute in attributes {
        let Meta::List(list) = &attribute.meta else { continue };
        if !list.path.is_ident("derive") {
            continue;
        }
        let _ = attribute.parse_nested_meta(|meta| {
            names.extend(meta.path.segments.last().map(|segment| segment.ident.unraw().to_string()));
            Ok(())
        });
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn names_are_those_that_serde_writes() {
        let item: syn::ItemStruct = parse_quote! {
            #[serde(rename_all = "camelCase", deny_unknown_fields)]
            struct Placed {
                total_cents: u64,
                #[serde(rename = "who", default)]
                #[serde(alias = "client")]
                customer: Option < String >,
                #[serde(skip)]
                cached: bool,
                #[serde(skip_serializing, default = "other::hint")]
                hint: u8,
                r#type: Vec<(u8, u8)>,
            }
        };
        let fields = json_fields(&item.fields, &SerdeAttributes::of(&item.attrs));
        let fields: Vec<_> = fields.iter().map(|(name, ty)| (name.as_str(), ty.as_str())).collect();
        let expected = [
            ("totalCents", "u64"),
            ("who", "Option<String> #[serde(alias=\"client\", default)]"),
            ("hint", "u8 #[serde(default=\"other::hint\", skip_serializing)]"),
            ("type", "Vec<(u8, u8)>"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn names_in_a_variant_follow_its_own_rule_or_the_enums() {
        let item: syn::ItemEnum = parse_quote! {
            #[serde(rename_all_fields = "camelCase")]
            enum OrderEvent {
                Placed { total_cents: u64 },
                #[serde(rename_all = "SCREAMING-KEBAB-CASE")]
                Paid { paid_cents: u64 },
            }
        };
        let container = SerdeAttributes::of(&item.attrs);
        let names = item.variants.iter().flat_map(|variant| json_fields_of_variant(variant, &container));
        assert_eq!(names.map(|(name, _)| name).collect::<Vec<_>>(), ["totalCents", "PAID-CENTS"]);
    }

    #[test]
    fn types_read_the_same_however_they_are_broken_into_lines() {
        let text = |source: &str| text(&syn::parse_str::<Type>(source).expect("a type"));
        assert_eq!(text("BTreeMap<\n String,\n (u8, u8,),\n>"), "BTreeMap<String, (u8, u8)>");
        assert_eq!(text("(BTreeMap<u8 , u8>,)"), "(BTreeMap<u8, u8>,)");
        assert_eq!(text("[ Option<&'static str> ; 4 ]"), "[Option<&'static str>; 4]");
    }

    #[test]
    fn derives_are_known_by_their_last_names() {
        let item: syn::ItemStruct = parse_quote! {
            #[derive(Clone, serde::Serialize)]
            #[derive(std::fmt::Debug)]
            struct Placed;
        };
        assert_eq!(derives(&item.attrs), ["Clone", "Serialize", "Debug"]);
    }
}
