//! What `#[projection(…)]` and `#[read_model]` say.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Meta, Path, Type, parse_quote};

use crate::errors::Errors;
use crate::keys::Grammar;
use crate::sources::{self, Source};

const GRAMMAR: Grammar = Grammar {
    attribute: "#[projection(…)]",
    keys: &[
        ("name", "name = \"order_list\""),
        ("events", "events(Order(OrderPlaced, OrderShipped), Stock(StockReserved))"),
        ("crate", "crate = ::path::to::es_core"),
    ],
    repeatable: &[],
    elsewhere: &[],
};

/// What a projection needs at least.
const EXAMPLE: &str = "name = \"…\", events(Aggregate(Event, …))";

/// What the attributes say, complete; what was mistaken has been reported and stands for something.
pub(super) struct Attributes {
    pub(super) core: Path,
    pub(super) name: String,
    pub(super) sources: Vec<Source>,
    /// The fields with `#[read_model]`: their names or numbers, and their types.
    pub(super) read_models: Vec<(TokenStream, Type)>,
}

impl Attributes {
    pub(super) fn read(item: &DeriveInput, errors: &mut Errors) -> Self {
        let read_models = read_models(item, errors);
        let core = parse_quote!(::es_core);
        let mut attributes =
            Self { core, name: item.ident.unraw().to_string(), sources: Vec::new(), read_models };
        let Some(tokens) = sources::tokens(item, "projection", EXAMPLE, errors) else { return attributes };
        let mut given = Vec::new();
        for entry in GRAMMAR.parse(tokens, errors) {
            given.push(entry.key.to_string());
            match entry.key.to_string().as_str() {
                "name" => {
                    if let Some(name) = entry.text(&GRAMMAR, errors) {
                        attributes.name = sources::valid_name(&name, "projection", errors);
                    }
                }
                "events" => attributes.sources = sources::read(&entry, &GRAMMAR, errors),
                _ => {
                    if let Some(core) = entry.path(&GRAMMAR, errors) {
                        attributes.core = core;
                    }
                }
            }
        }
        let required = [
            ("name", "has no `name`, under which its checkpoints are stored"),
            ("events", "lists no `events` to take"),
        ];
        sources::require(item, "projection", EXAMPLE, &required, &given, errors);
        attributes
    }
}

fn read_models(item: &DeriveInput, errors: &mut Errors) -> Vec<(TokenStream, Type)> {
    let is_mark = |attribute: &&syn::Attribute| attribute.path().is_ident("read_model");
    let Data::Struct(data) = &item.data else {
        if let Data::Enum(data) = &item.data {
            let fields = data.variants.iter().flat_map(|variant| &variant.fields);
            for mark in fields.flat_map(|field| field.attrs.iter().filter(is_mark)) {
                errors.on(mark, "`#[read_model]` goes to a field of a struct: make the projection a struct");
            }
        }
        return Vec::new();
    };
    let mut read_models = Vec::new();
    for (index, field) in data.fields.iter().enumerate() {
        let index = syn::Index::from(index);
        let name = field.ident.as_ref().map_or_else(|| quote!(#index), |name| quote!(#name));
        match field.attrs.iter().find(is_mark) {
            Some(mark) if matches!(mark.meta, Meta::Path(_)) => read_models.push((name, field.ty.clone())),
            Some(mark) => {
                let is_read_only = mark.parse_args::<syn::Ident>().is_ok_and(|key| key == "read_only");
                if !is_read_only {
                    errors.on(
                        mark,
                        "`#[read_model]` has one key, `read_only`: write `#[read_model]`, or \
                         `#[read_model(read_only)]` for the rows of another projection",
                    );
                }
            }
            None if is_read_model(&field.ty) => errors.on(
                &field.ty,
                format!(
                    "the projection cannot change `{name}` without an attribute: write `#[read_model]` above the \
                     field, or `#[read_model(read_only)]` if another projection keeps these rows"
                ),
            ),
            None => {}
        }
    }
    read_models
}

/// Whether a type is written as a `ReadModel`, under whatever path.
fn is_read_model(ty: &Type) -> bool {
    let Type::Path(ty) = ty else { return false };
    ty.path.segments.last().is_some_and(|segment| segment.ident == "ReadModel")
}
