//! What `#[process(…)]` says.

use syn::{DeriveInput, Path, parse_quote};

use crate::errors::Errors;
use crate::keys::Grammar;
use crate::sources::{self, Source};

const GRAMMAR: Grammar = Grammar {
    attribute: "#[process(…)]",
    keys: &[
        ("name", "name = \"fulfilment\""),
        ("state", "state = Fulfilment"),
        ("events", "events(Order(OrderPlaced), Stock(StockReserved))"),
        ("timeouts", "timeouts(PaymentOverdue)"),
        ("crate", "crate = ::path::to::es_core"),
    ],
    repeatable: &[],
    elsewhere: &[],
};

/// What the attribute says, complete; what was mistaken has been reported and stands for something.
pub(super) struct Attributes {
    pub(super) core: Path,
    pub(super) name: String,
    pub(super) state: Path,
    pub(super) sources: Vec<Source>,
    pub(super) timeouts: Vec<Path>,
}

impl Attributes {
    /// `None` when it does not even say what the state is.
    pub(super) fn read(item: &DeriveInput, errors: &mut Errors) -> Option<Self> {
        let required = [
            ("name", "under which its checkpoints are stored"),
            ("state", "the aggregate that remembers for it"),
            ("events", "that it reacts to"),
        ];
        let example = "name = \"…\", state = …, events(Aggregate(Event, …))";
        let tokens = sources::tokens(item, "process", example, &required, errors)?;
        let entries = GRAMMAR.parse(tokens, errors);
        let entry = |key: &str| entries.iter().find(|entry| entry.key == key);

        let name = entry("name").and_then(|entry| entry.text(&GRAMMAR, errors));
        let name = name.map(|name| sources::valid_name(&name, "process", errors)).unwrap_or_default();
        let sources = entry("events").map(|entry| sources::read(entry, &GRAMMAR, errors)).unwrap_or_default();
        let timeouts = entry("timeouts").and_then(|entry| entry.list::<Path>(&GRAMMAR, errors));
        let core = entry("crate").and_then(|entry| entry.path(&GRAMMAR, errors));
        let state = entry("state").and_then(|entry| entry.path(&GRAMMAR, errors))?;
        Some(Self {
            core: core.unwrap_or_else(|| parse_quote!(::es_core)),
            name,
            state,
            sources,
            timeouts: timeouts.unwrap_or_default(),
        })
    }
}
