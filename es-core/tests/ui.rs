//! Mistakes that the compiler finds, and what it says to them: one file for each mistake.
//!
//! The messages are part of the interface. To renew them after a change, run
//! `TRYBUILD=overwrite cargo test -p es-core --test ui`, and read every one.

#[test]
fn mistakes_are_named_with_the_rule_and_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("../tests/ui/*/*.rs");
}
