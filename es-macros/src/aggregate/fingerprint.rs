//! The fingerprint of a state's shape, which determines whether a snapshot can still be used.

use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Data, DeriveInput, Fields, Meta, Token};

use crate::support::tokens::text;

/// Returns a hash of the fields of the state (their names, types, order, and serde attributes) and of the version in
/// `snapshot(version = …)`.
///
/// The hash is FNV-1a, which does not depend on the machine or the compiler. Types are compared by their source text: a
/// change inside a type is detected if a snapshot cannot be decoded; otherwise, it requires another `snapshot(version =
/// …)`.
pub(super) fn fingerprint(item: &DeriveInput, version: u32) -> u64 {
    let mut shape = format!("version {version};");
    add_serde(&mut shape, &item.attrs);
    match &item.data {
        Data::Struct(data) => add_fields(&mut shape, &data.fields),
        Data::Enum(data) => {
            for variant in &data.variants {
                add_serde(&mut shape, &variant.attrs);
                shape.push_str(&format!("variant {};", variant.ident));
                add_fields(&mut shape, &variant.fields);
            }
        }
        Data::Union(_) => {}
    }
    shape.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn add_fields(shape: &mut String, fields: &Fields) {
    for (index, field) in fields.iter().enumerate() {
        add_serde(shape, &field.attrs);
        let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        shape.push_str(&format!("{name}: {};", text(&field.ty)));
    }
}

fn add_serde(shape: &mut String, attributes: &[Attribute]) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        let Meta::List(list) = &attribute.meta else { continue };
        let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
        let written = match parser.parse2(list.tokens.clone()) {
            // The path of serde is not part of the shape.
            Ok(keys) => keys.iter().filter(|key| !key.path().is_ident("crate")).map(text).collect(),
            Err(_) => vec![text(&list.tokens)],
        };
        if !written.is_empty() {
            shape.push_str(&format!("serde({})", written.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn depends_on_the_shape_only() {
        let first: DeriveInput = parse_quote! {
            /// An order.
            struct Order { status: Status, lines: Vec<Line> }
        };
        let spaced: DeriveInput = parse_quote! {
            pub struct Order { pub(crate) status: Status, /** the lines */ lines: Vec < Line >, }
        };
        assert_eq!(fingerprint(&first, 1), fingerprint(&spaced, 1));
        assert_eq!(fingerprint(&first, 1), 0x40ab_3727_b98e_6a9a, "stored fingerprints must not change");

        let others: [DeriveInput; 4] = [
            parse_quote!(
                struct Order {
                    status: Status,
                    lines: Vec<Row>,
                }
            ),
            parse_quote!(
                struct Order {
                    state: Status,
                    lines: Vec<Line>,
                }
            ),
            parse_quote!(
                struct Order {
                    status: Status,
                }
            ),
            parse_quote!(
                struct Order {
                    #[serde(skip)]
                    status: Status,
                    lines: Vec<Line>,
                }
            ),
        ];
        for other in &others {
            assert_ne!(fingerprint(&first, 1), fingerprint(other, 1));
        }
        assert_ne!(fingerprint(&first, 1), fingerprint(&first, 2));
    }

    #[test]
    fn depends_on_serde_attributes_except_for_the_path_of_serde() {
        let plain: DeriveInput = parse_quote!(
            struct Order {
                total_cents: u64,
            }
        );
        let placed: DeriveInput = parse_quote!(
            #[serde(crate = "es_core::serde")]
            struct Order {
                total_cents: u64,
            }
        );
        let renamed: DeriveInput = parse_quote!(
            #[serde(crate = "es_core::serde", rename_all = "camelCase")]
            struct Order {
                total_cents: u64,
            }
        );
        assert_eq!(fingerprint(&plain, 1), fingerprint(&placed, 1));
        assert_ne!(fingerprint(&plain, 1), fingerprint(&renamed, 1));
    }
}
