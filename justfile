# Everything that people and the CI script run. `just` lists it; each recipe works alone.

set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list --unsorted

# the Order example, end to end, on the embedded engine
example *ARGS:
    cargo run -p examples -- {{ARGS}}

# the tests: all of them, on the store in memory and on the embedded engine
test:
    cargo test

# the same conformance suite on Amazon's own engine; needs Java 17 and npm
test-dynamodb-local:
    scripts/dynamodb-local cargo test -p es-tests --test dynamo --test feed --test indexer

# real processes that are killed, behind a proxy with faults, on Amazon's own engine: about a minute; needs Java 17 and npm
test-chaos:
    scripts/chaos --seconds 30 --upgrade --seed 1

# the same with options, for a long run: see `just chaos --help`
chaos *ARGS:
    scripts/chaos {{ARGS}}

# publishing, on a Kinesis-compatible server; needs Node.js
test-kinesis:
    scripts/kinesis-server cargo test -p es-tests --test kinesis -- --ignored

# the Order example on Amazon's own engine
example-dynamodb-local:
    scripts/dynamodb-local bash -c 'cargo run -q -p examples -- --endpoint "$ES_DYNAMO_ENDPOINT" | tail -n 20'

# what commands and loads cost, in requests and capacity units
costs:
    cargo run -q -p examples --bin costs

# what the framework takes beside a hand-written loop on the SDK, in CPU time
bench-overhead *ARGS:
    cargo run -q --release -p es-benches --bin overhead -- {{ARGS}}

# the same, built with link-time optimisation: some minutes more to build
bench-overhead-lto *ARGS:
    cargo run -q --profile lto -p es-benches --bin overhead -- {{ARGS}}

# the framework beside other libraries, on the embedded engine: a few minutes
bench-compare *ARGS:
    cargo run -q --release -p es-benches --bin compare -- {{ARGS}}

# the same on Amazon's own engine
bench-compare-dynamodb-local *ARGS:
    scripts/dynamodb-local cargo run -q --release -p es-benches --bin compare -- {{ARGS}}

# the feed: lag, rebuilding and capacity units, in memory and on the embedded engine: some minutes
bench-feed *ARGS:
    cargo run -q --release -p es-benches --bin feed -- {{ARGS}}

# the cost of a command on the embedded engine as its table grows to a million events: an hour or two
bench-embedded *ARGS:
    cargo run -q --release -p es-benches --bin embedded -- {{ARGS}}

# docs/benchmarks.md, from a run on each engine, docs/feed-benchmarks.md and docs/embedded-benchmarks.md
bench-docs: bench-feed-docs bench-embedded-docs
    cargo build -q --release -p es-benches --bin compare --bin overhead
    cargo build -q --profile lto -p es-benches --bin overhead
    mkdir -p docs
    just bench-compare > docs/benchmarks.new
    just bench-overhead >> docs/benchmarks.new
    just bench-overhead-lto >> docs/benchmarks.new
    just bench-compare-dynamodb-local >> docs/benchmarks.new
    mv docs/benchmarks.new docs/benchmarks.md

# docs/feed-benchmarks.md
bench-feed-docs:
    mkdir -p docs
    just bench-feed > docs/feed-benchmarks.new
    mv docs/feed-benchmarks.new docs/feed-benchmarks.md

# docs/embedded-benchmarks.md
bench-embedded-docs:
    mkdir -p docs
    just bench-embedded > docs/embedded-benchmarks.new
    mv docs/embedded-benchmarks.new docs/embedded-benchmarks.md

# the benchmarks, shortly and without optimisation: that they run, not how fast
bench-smoke:
    cargo run -q -p es-benches --bin overhead -- 1 50
    cargo run -q -p es-benches --bin compare -- --quick
    cargo run -q -p es-benches --bin feed -- --quick
    cargo run -q -p es-benches --bin embedded -- --quick

# formatting
fmt:
    cargo fmt --all --check

# lints, with warnings denied
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# documentation, with warnings denied
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# the book, into target/book; needs mdbook. That its snippets compile and run is a part of `test`
book:
    mdbook build docs

# every feature alone
features:
    cargo clippy -p es-core -- -D warnings
    cargo clippy -p es-core --features testing -- -D warnings
    cargo clippy -p es-core --features tracing-subscriber -- -D warnings
    cargo clippy -p es-core --features proptest -- -D warnings
    cargo clippy -p es-dynamo --no-default-features -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features aws -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features embedded -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features kinesis -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features indexer -- -D warnings

# licences, bans and sources of all dependencies; needs cargo-deny
deny:
    cargo deny --locked check licenses bans sources

# known vulnerabilities in the dependencies; needs cargo-deny, and github.com, so it is no part of `ci`
advisories:
    cargo deny --locked check advisories

# looks for items that break a store, for so many seconds; needs nightly and cargo-fuzz
fuzz SECONDS="300":
    cargo +nightly fuzz run -s none --codegen-units 16 items -- -max_total_time={{SECONDS}} -max_len=4096 -rss_limit_mb=1024

# what has to pass, as the CI script runs it
ci: test fmt lint features docs book deny test-dynamodb-local test-chaos test-kinesis example-dynamodb-local costs bench-smoke
