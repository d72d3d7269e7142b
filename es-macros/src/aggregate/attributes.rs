//! What `#[aggregate(…)]` says.

use proc_macro2::{Ident, TokenStream};
use quote::format_ident;
use syn::ext::IdentExt;
use syn::{DeriveInput, LitStr, Meta, Path, Type, parse_quote};

use super::members::Members;
use crate::errors::Errors;
use crate::keys::{Entry, Grammar, append};

const GRAMMAR: Grammar = Grammar {
    attribute: "#[aggregate(…)]",
    keys: &[
        ("name", "name = \"order\""),
        ("id", "id = OrderId"),
        ("events", "events(OrderPlaced, OrderShipped)"),
        ("event", "event = OrderEvent"),
        ("event_enum", "event_enum = OrderEvent"),
        ("retired", "retired(\"OrderFlagged\")"),
        ("snapshot", "snapshot(every = 100)"),
        ("crate", "crate = ::path::to::es_core"),
    ],
    repeatable: &[],
    elsewhere: &[],
};

const SNAPSHOT: Grammar = Grammar {
    attribute: "snapshot(…)",
    keys: &[("every", "every = 100"), ("version", "version = 2")],
    repeatable: &[],
    elsewhere: &[],
};

/// What the attribute says, complete; what was mistaken has been reported and stands for something.
pub(super) struct Attributes {
    pub(super) core: Path,
    pub(super) name: String,
    pub(super) id: Type,
    pub(super) members: Members,
    pub(super) retired: Vec<LitStr>,
    pub(super) snapshot: Option<Snapshot>,
}

/// What `snapshot(…)` says.
pub(super) struct Snapshot {
    pub(super) every: Option<u32>,
    pub(super) version: u32,
    pub(super) key: Ident,
}

impl Attributes {
    pub(super) fn read(item: &DeriveInput, errors: &mut Errors) -> Self {
        let Some(tokens) = tokens(item, errors) else { return Self::stub(item) };
        let entries = GRAMMAR.parse(tokens, errors);
        let entry = |key: &str| entries.iter().find(|entry| entry.key == key);

        let name = match entry("name") {
            Some(entry) => entry.text(&GRAMMAR, errors).map(|name| valid_name(&name, errors)),
            None => missing(item, "name", "the first part of the names of its streams", errors),
        };
        let id = match entry("id") {
            Some(entry) => entry.ty(&GRAMMAR, errors),
            None => missing(item, "id", "the type that identifies one of them", errors),
        };
        let members =
            Members::read(item, &GRAMMAR, entry("events"), entry("event"), entry("event_enum"), errors);
        let retired =
            entry("retired").and_then(|entry| entry.list::<LitStr>(&GRAMMAR, errors)).unwrap_or_default();
        let snapshot = entry("snapshot").and_then(|entry| Snapshot::read(entry, errors));
        let core = entry("crate").and_then(|entry| entry.path(&GRAMMAR, errors));
        let stub = Self::stub(item);
        Self {
            core: core.unwrap_or(stub.core),
            name: name.unwrap_or(stub.name),
            id: id.unwrap_or(stub.id),
            members,
            retired,
            snapshot,
        }
    }

    /// What stands for an attribute that cannot be read, so that its mistake is the only one reported, and
    /// not everything that needs an aggregate as well.
    fn stub(item: &DeriveInput) -> Self {
        Self {
            core: parse_quote!(::es_core),
            name: item.ident.unraw().to_string(),
            id: parse_quote!(::std::string::String),
            members: Members::none(default_enum(item)),
            retired: Vec::new(),
            snapshot: None,
        }
    }
}

impl Snapshot {
    fn read(entry: &Entry, errors: &mut Errors) -> Option<Self> {
        let mut snapshot = Self { every: None, version: 1, key: entry.key.clone() };
        if entry.is_bare() {
            return Some(snapshot);
        }
        let tokens = entry.nested(&GRAMMAR, errors)?;
        let mut mistakes = Errors::new();
        for entry in SNAPSHOT.parse(tokens, &mut mistakes) {
            let Some((number, span)) = entry.number(&SNAPSHOT, &mut mistakes) else { continue };
            if entry.key == "version" {
                snapshot.version = number;
            } else if number == 0 {
                mistakes.at(
                    span,
                    "a snapshot is taken after at least one event: write `snapshot(every = 100)`, \
                     or leave `snapshot` out to have none",
                );
            } else {
                snapshot.every = Some(number);
            }
        }
        errors.absorb(mistakes).then_some(snapshot)
    }
}

/// The content of the one `#[aggregate(…)]`.
fn tokens(item: &DeriveInput, errors: &mut Errors) -> Option<TokenStream> {
    let mut tokens: Option<TokenStream> = None;
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("aggregate")) {
        match &attribute.meta {
            Meta::List(list) => {
                if tokens.is_some() {
                    errors.on(attribute, "`#[aggregate(…)]` is given twice: put all keys into one");
                }
                append(tokens.get_or_insert_default(), list.tokens.clone());
            }
            _ => errors.on(
                attribute,
                "`#[aggregate]` needs its keys: write `#[aggregate(name = \"…\", id = …, events(…))]`",
            ),
        }
    }
    if !item.attrs.iter().any(|attribute| attribute.path().is_ident("aggregate")) {
        errors.on(
            &item.ident,
            format!(
                "the aggregate `{0}` does not say what it is: write `#[aggregate(name = \"{1}\", id = {0}Id, \
                 events(…))]` below the derive",
                item.ident,
                item.ident.unraw().to_string().to_lowercase()
            ),
        );
    }
    tokens
}

fn missing<T>(item: &DeriveInput, key: &str, what: &str, errors: &mut Errors) -> Option<T> {
    let ident = item.ident.unraw();
    let example = match key {
        "id" => format!("id = {ident}Id"),
        _ => format!("name = \"{}\"", ident.to_string().to_lowercase()),
    };
    errors.on(
        &item.ident,
        format!("the aggregate `{ident}` has no `{key}`, {what}: add `{example}` to `#[aggregate(…)]`"),
    );
    None
}

/// The rules of `StreamId::new`, at compile time.
fn valid_name(name: &LitStr, errors: &mut Errors) -> String {
    let text = name.value();
    let wrong = if text.is_empty() {
        Some("cannot be empty")
    } else if text.contains('#') {
        Some("cannot contain `#`, which separates the name from the id in the names of streams")
    } else if text.starts_with('$') {
        Some("cannot start with `$`, which marks the framework's own items")
    } else if text.len() > 100 {
        Some("cannot have more than 100 bytes")
    } else if text.chars().any(char::is_control) {
        Some("cannot contain control characters")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        errors.at(name.span(), format!("an aggregate's name {wrong}: write one as in `name = \"order\"`"));
    }
    text
}

/// The name of the enum that is generated when none is given.
pub(super) fn default_enum(item: &DeriveInput) -> Ident {
    format_ident!("{}Event", item.ident, span = item.ident.span())
}
