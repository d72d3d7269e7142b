//! The messages of the compiler: one file for each mistake, with the errors that it causes.
//!
//! The messages are part of the interface. To update them after a change, run
//! `TRYBUILD=overwrite cargo test -p es-macros --test ui`, and review the difference. The files in `tests/ui` itself
//! are included by the cases.

#[test]
fn mistakes_are_reported_with_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("../tests/ui/*/*.rs");
}
