//! The keys of `#[aggregate(…)]`.

use proc_macro2::Ident;
use syn::ext::IdentExt;
use syn::{DeriveInput, LitStr, Path, Type, parse_quote};

use super::events::Events;
use crate::support::derive::{Helper, valid_name};
use crate::support::errors::Errors;
use crate::support::grammar::{Entry, Grammar};

static AGGREGATE: Helper = Helper {
    name: "aggregate",
    example: "name = \"…\", id = …, events(…)",
    grammar: Grammar::new(
        "`#[aggregate(…)]`",
        &[
            ("name", "name = \"order\""),
            ("id", "id = OrderId"),
            ("events", "events(OrderPlaced, OrderShipped)"),
            ("event", "event = OrderEvent"),
            ("event_enum", "event_enum = OrderEvent"),
            ("retired", "retired(\"OrderFlagged\")"),
            ("snapshot", "snapshot(every = 100)"),
            ("crate", "crate = ::path::to::es_core"),
        ],
    ),
};

static SNAPSHOT: Grammar =
    Grammar::new("`snapshot(…)`", &[("every", "every = 100"), ("version", "version = 2")]);

/// The attribute, with a substitute for each mistake.
pub(super) struct Attributes {
    pub(super) core: Path,
    pub(super) name: String,
    pub(super) id: Type,
    pub(super) events: Events,
    pub(super) retired: Vec<LitStr>,
    pub(super) snapshot: Option<Snapshot>,
}

/// The key `snapshot`.
pub(super) struct Snapshot {
    pub(super) every: Option<u32>,
    pub(super) version: u32,
    pub(super) key: Ident,
}

impl Attributes {
    pub(super) fn read(item: &DeriveInput, errors: &mut Errors) -> Self {
        let Some(keys) = AGGREGATE.read(item, errors) else { return Self::stub(item) };
        let stub = Self::stub(item);
        let name = match keys.get("name") {
            Some(entry) => entry.text(errors).map(|name| valid_name(&name, "an aggregate", errors)),
            None => {
                let example = format!("name = \"{}\"", item.ident.unraw().to_string().to_lowercase());
                AGGREGATE.missing(
                    "name",
                    "with which the names of its streams begin",
                    &example,
                    item,
                    errors,
                );
                None
            }
        };
        let id = match keys.get("id") {
            Some(entry) => entry.ty(errors),
            None => {
                let example = format!("id = {}Id", item.ident.unraw());
                AGGREGATE.missing("id", "the type of its ids", &example, item, errors);
                None
            }
        };
        let events = Events::read(item, &keys, errors);
        let retired = keys.get("retired").and_then(|entry| entry.list::<LitStr>(errors));
        let snapshot = keys.get("snapshot").and_then(|entry| Snapshot::read(entry, errors));
        Self {
            core: keys.core(errors),
            name: name.unwrap_or(stub.name),
            id: id.unwrap_or(stub.id),
            events,
            retired: retired.unwrap_or_default(),
            snapshot,
        }
    }

    /// The substitute for an attribute that cannot be read.
    fn stub(item: &DeriveInput) -> Self {
        Self {
            core: parse_quote!(::es_core),
            name: item.ident.unraw().to_string(),
            id: parse_quote!(::std::string::String),
            events: Events::none(item),
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
        let tokens = entry.nested(errors)?;
        let mut mistakes = Errors::new();
        for entry in SNAPSHOT.parse(tokens, &mut mistakes).iter() {
            let Some((number, span)) = entry.number(&mut mistakes) else { continue };
            if entry.key == "version" {
                snapshot.version = number;
            } else if number == 0 {
                mistakes.at(
                    span,
                    "`every` is at least 1: write `snapshot(every = 100)`, or remove `snapshot` to take no snapshots",
                );
            } else {
                snapshot.every = Some(number);
            }
        }
        errors.absorb(mistakes).then_some(snapshot)
    }
}
