//! Looks for a table whose items make a store panic, loop, quote a payload, or read what was not stored.

#![no_main]

#[path = "../../tests/tests/suite/hostile/mod.rs"]
mod hostile;

use libfuzzer_sys::Corpus;
use libfuzzer_sys::arbitrary::Unstructured;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(case) = hostile::case(&mut Unstructured::new(bytes)) else {
        return Corpus::Reject;
    };
    hostile::runtime().block_on(hostile::check(case));
    Corpus::Keep
});
