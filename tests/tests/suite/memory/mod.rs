//! The conformance suite on the store in memory.

mod faulty_snapshots;
mod spans;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use es_core::MemoryStore;
use es_core::payloads::{MemoryPayloads, Payloads};
use es_core::personal::MemoryKeyring;
use es_tests::conformance::large_events::MAX_BYTES;

es_tests::conformance!(Arc::new(MemoryStore::new()));
es_tests::documents_conformance!(Arc::new(MemoryStore::new()));
es_tests::feed_conformance!(Arc::new(MemoryStore::new()));
es_tests::splits_conformance!(Arc::new(MemoryStore::new()));
es_tests::large_events_conformance!(Arc::new(
    MemoryStore::new().with_payloads(Payloads::new(MemoryPayloads::new()).with_max_bytes(MAX_BYTES))
));
es_tests::payloads_conformance!(Arc::new(MemoryPayloads::new()));
es_tests::keyring_conformance!({
    let keyring = MemoryKeyring::new();
    Arc::new(move || keyring.clone())
});

/// Pages may end anywhere.
mod with_cut_pages {
    use std::sync::Arc;

    use es_core::MemoryStore;
    use es_core::testing::{Faults, FaultyStore};

    fn store() -> FaultyStore<MemoryStore> {
        FaultyStore::new(MemoryStore::new(), Faults::seeded(7).cut_pages(0.6))
    }

    es_tests::documents_conformance!(Arc::new(store()));
    es_tests::feed_conformance!(Arc::new(store()));
    es_tests::splits_conformance!(Arc::new(store()));
}

/// The macros of the suite list the rules by name: this finds a rule that is missing in the list.
#[test]
fn every_rule_of_the_suite_is_run() {
    let names = |folder: &Path| -> Vec<String> {
        let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8")).collect()
    };
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance");
    let mut rules = BTreeSet::new();
    for group in names(&suite).into_iter().filter(|name| !name.ends_with(".rs")) {
        let module = match group.as_str() {
            "contract" | "repository" => String::new(),
            other => format!("{other}::"),
        };
        let folder = suite.join(&group);
        for file in names(&folder).into_iter().filter(|file| file != "mod.rs") {
            let source = std::fs::read_to_string(folder.join(&file)).expect("UTF-8");
            let noun = file.strip_suffix(".rs").expect("a source file");
            let functions =
                source.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next());
            rules.extend(functions.map(|rule| format!("memory::{module}{noun}::{rule}")));
        }
    }

    let output =
        Command::new(std::env::current_exe().expect("is known")).arg("--list").output().expect("runs");
    let list = String::from_utf8(output.stdout).expect("UTF-8");
    let tests: BTreeSet<_> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let forgotten: Vec<_> = rules.iter().filter(|rule| !tests.contains(rule.as_str())).collect();
    assert!(
        forgotten.is_empty(),
        "add these rules to the macros in tests/src/conformance/mod.rs: {forgotten:#?}"
    );
    assert!(rules.len() > 100, "only {} rules were found", rules.len());
}
