//! What `#[process(…)]` says.

use syn::{DeriveInput, Path, parse_quote};

use crate::errors::Errors;
use crate::keys::Grammar;
use crate::shape::text;
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

/// What a process needs at least.
const EXAMPLE: &str = "name = \"…\", state = …, events(Aggregate(Event, …))";

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
        let tokens = sources::tokens(item, "process", EXAMPLE, errors)?;
        let entries = GRAMMAR.parse(tokens, errors);
        let given: Vec<_> = entries.iter().map(|entry| entry.key.to_string()).collect();
        let required = [
            ("name", "has no `name`, under which its checkpoints are stored"),
            ("state", "has no `state`, the aggregate that remembers for it"),
            ("events", "lists no `events` to react to"),
        ];
        sources::require(item, "process", EXAMPLE, &required, &given, errors);
        let entry = |key: &str| entries.iter().find(|entry| entry.key == key);

        let name = entry("name").and_then(|entry| entry.text(&GRAMMAR, errors));
        let name = name.map(|name| sources::valid_name(&name, "process", errors)).unwrap_or_default();
        let sources = entry("events").map(|entry| sources::read(entry, &GRAMMAR, errors)).unwrap_or_default();
        let timeouts = entry("timeouts").and_then(|entry| entry.list::<Path>(&GRAMMAR, errors));
        let timeouts = timeouts.unwrap_or_default();
        for (index, event) in timeouts.iter().enumerate() {
            if timeouts[..index].iter().any(|before| text(before) == text(event)) {
                errors.on(event, format!("the event `{}` is listed twice: remove one of them", text(event)));
            }
        }
        let core = entry("crate").and_then(|entry| entry.path(&GRAMMAR, errors));
        let state = entry("state").and_then(|entry| entry.path(&GRAMMAR, errors))?;
        Some(Self { core: core.unwrap_or_else(|| parse_quote!(::es_core)), name, state, sources, timeouts })
    }
}
