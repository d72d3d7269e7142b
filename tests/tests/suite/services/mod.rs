//! The parts of the framework that use other services of AWS. Some of the tests run on the server at `ES_MOTO_ENDPOINT`, which
//! `scripts/moto` starts, and are ignored without it.

mod kms;
