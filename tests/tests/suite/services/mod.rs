//! The parts of the framework that use other services of AWS. Some of the tests run on the server at
//! `ES_MOTO_ENDPOINT`, which `scripts/moto` starts, and are ignored without it.

mod kms;
mod publishers;
mod s3;

/// Returns the address of the server.
fn endpoint() -> String {
    std::env::var("ES_MOTO_ENDPOINT").unwrap_or_else(|_| {
        panic!("ES_MOTO_ENDPOINT names no server: `scripts/moto COMMAND` starts one and runs the command")
    })
}
