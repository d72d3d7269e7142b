//! The JSON form of a type: the names of its fields, and the serde attributes that change it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Attribute, Field, Fields, LitStr, Path, Token, Type, Variant};

use super::tokens::text;

/// The serde attributes of a container, a variant, or a field that change its JSON form.
#[derive(Default)]
pub(crate) struct SerdeAttributes {
    pub(crate) rename: Option<String>,
    rename_all: Option<String>,
    rename_all_fields: Option<String>,
    /// Whether it is neither serialized nor deserialized.
    pub(crate) skipped: bool,
    pub(crate) has_crate: bool,
    /// The keys that change the representation of an enum.
    pub(crate) representation: Vec<syn::Ident>,
}

impl SerdeAttributes {
    pub(crate) fn of(attributes: &[Attribute]) -> Self {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            // Serde reports attributes that it cannot parse.
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

/// Parses `= "…"`, or `(serialize = "…", …)`.
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

/// Returns a type with the attributes of its field that change how stored data is read: those of serde, such as
/// `default` and `alias`, and `#[personal(…)]`.
pub(crate) fn with_attributes(ty: &impl ToTokens, attributes: &[Attribute]) -> String {
    let is_shape = |attribute: &String| {
        // The name is already recorded with the type.
        !["rename=\"", "bound", "borrow"].iter().any(|other| attribute.starts_with(other))
    };
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let parts =
        serde.filter_map(|attribute| attribute.meta.require_list().ok()).flat_map(|list| parts(&list.tokens));
    let mut found: Vec<String> = parts.filter(is_shape).collect();
    found.sort_unstable();
    let mut shown = text(ty);
    if !found.is_empty() {
        shown.push_str(&format!(" #[serde({})]", found.join(", ")));
    }
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("personal")) {
        shown.push_str(&format!(" #[{}]", text(&attribute.meta)));
    }
    shown
}

/// Splits a list at its commas.
fn parts(tokens: &TokenStream) -> Vec<String> {
    let is_comma = |token: &proc_macro2::TokenTree| matches!(token, proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ',');
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let parts = tokens.split(is_comma).filter(|part| !part.is_empty());
    parts.map(|part| text(&part.iter().cloned().collect::<TokenStream>())).collect()
}

/// Returns the serde attributes of a whole type as text, without `crate`.
pub(crate) fn representation(attributes: &[Attribute]) -> Vec<String> {
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let forms =
        serde.filter_map(|attribute| attribute.meta.require_list().ok()).map(|list| text(&list.tokens));
    forms.filter(|form| !form.starts_with("crate")).collect()
}

/// Returns the names and types of the fields in JSON, without skipped ones.
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

/// Returns the types of the fields in JSON.
pub(crate) fn json_types(fields: &Fields) -> Vec<Type> {
    let stored = fields.iter().filter(|field| !SerdeAttributes::of(&field.attrs).skipped);
    stored.map(|field| field.ty.clone()).collect()
}

/// Generates code that adds the schemas of `types`, if they have any, to the variable `types`.
pub(crate) fn describe(core: &Path, types: &[Type]) -> TokenStream {
    quote! {
        {
            #[allow(unused_imports)] // the types decide which of the two is used
            use #core::__private::{DescribeNothing as _, DescribeSchema as _};
            #((&#core::__private::Probe::<#types>::new()).describe(types);)*
        }
    }
}

/// Returns the names and types of a variant's fields in JSON.
pub(crate) fn json_fields_of_variant(
    variant: &Variant,
    container: &SerdeAttributes,
) -> Vec<(String, String)> {
    let mut own = SerdeAttributes::of(&variant.attrs);
    own.rename_all = own.rename_all.or_else(|| container.rename_all_fields.clone());
    json_fields(&variant.fields, &own)
}

/// Applies one of serde's `rename_all` rules to the name of a field, which is in snake case.
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

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn names_fields_like_serde() {
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
    fn names_fields_of_variants_by_the_rule_of_the_variant_or_the_enum() {
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
}
