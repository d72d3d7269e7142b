# Recipes for development and CI. `just` lists them; each one works alone.
#
# Most recipes select no package, because Cargo chooses the features of dependencies by the selected packages: with
# another selection, it would compile them again.

set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list --unsorted

# the Order example, end to end, on the embedded engine
example *ARGS:
    cargo run -p examples -- {{ARGS}}

# all tests, on the store in memory and on the embedded engine
test:
    cargo test

# the conformance suite on DynamoDB Local; needs Java 17 and npm
test-dynamodb-local:
    scripts/dynamodb-local cargo test --test suite -- dynamo:: feed:: indexer::

# the tests of es-postgres and es-tools on a PostgreSQL server, with the conformance suite; needs PostgreSQL 14 or later
test-postgres:
    scripts/postgres cargo test --test postgres -- --include-ignored --skip restart::
    scripts/postgres cargo test --test cli -- postgres:: --ignored
    scripts/postgres cargo test --test postgres -- restart:: --ignored

# real processes under faults, on DynamoDB Local: takes about a minute; needs Java 17 and npm
test-chaos:
    scripts/chaos --seconds 30 --upgrade --seed 1

# the same on a temporary PostgreSQL server, which is restarted; needs PostgreSQL 14 or later
test-chaos-postgres:
    scripts/chaos --postgres --seconds 30 --upgrade --seed 1

# the same with options, for long runs: see `just chaos --help`
chaos *ARGS:
    scripts/chaos {{ARGS}}

# publishing to a Kinesis-compatible server; needs Node.js
test-kinesis:
    scripts/kinesis-server cargo test --test suite -- kinesis:: --ignored

# the parts that use S3, KMS, EventBridge, SNS, and SQS, on a server with their APIs; needs Python
test-services:
    scripts/moto cargo test --features es-tests/services,es-tools/s3 --test suite --test cli -- services:: s3:: --include-ignored

# the Order example on DynamoDB Local
example-dynamodb-local:
    scripts/dynamodb-local bash -c 'cargo run -q --bin order -- --endpoint "$ES_DYNAMO_ENDPOINT" | tail -n 20'

# the Order and the Bank example on a temporary PostgreSQL server
example-postgres:
    scripts/postgres sh -c 'cargo run -q --bin order -- --postgres "$ES_POSTGRES_URL"' > /dev/null
    scripts/postgres cargo test -q --test suite -- postgresql --ignored

# the cost of commands and loads, in requests and capacity units
costs:
    cargo run -q --bin costs

# CPU time compared with a hand-written loop on the SDK
bench-overhead *ARGS:
    cargo run -q --release -p es-benches --bin overhead -- {{ARGS}}

# the same with link-time optimization: takes some minutes longer to build
bench-overhead-lto *ARGS:
    cargo run -q --profile lto -p es-benches --bin overhead -- {{ARGS}}

# the instructions of a command, compared with a loop on the SDK; needs Valgrind
bench-instructions:
    scripts/instructions

# the instructions that metrics add to a command: at most 1%; needs Valgrind
metrics-overhead:
    scripts/instructions --metrics

# comparison with other libraries on the embedded engine: takes a few minutes
bench-compare *ARGS:
    cargo run -q --release -p es-benches --bin compare -- {{ARGS}}

# the same on DynamoDB Local
bench-compare-dynamodb-local *ARGS:
    scripts/dynamodb-local cargo run -q --release -p es-benches --bin compare -- {{ARGS}}

# commands beside a loop on the SDK: one at a time, and many clients and processes on one aggregate
bench-contention *ARGS:
    cargo run -q --release -p es-benches --bin contention -- {{ARGS}}

# the same on DynamoDB Local
bench-contention-dynamodb-local *ARGS:
    scripts/dynamodb-local cargo run -q --release -p es-benches --bin contention -- {{ARGS}}

# the feed: lag, rebuilds, and capacity units, in memory and on the embedded engine: takes some minutes
bench-feed *ARGS:
    cargo run -q --release -p es-benches --bin feed -- {{ARGS}}

# the cost of a command on the embedded engine as its table grows to a million events: takes an hour or two
bench-embedded *ARGS:
    cargo run -q --release -p es-benches --bin embedded -- {{ARGS}}

# the store on PostgreSQL beside a loop on sqlx and other libraries: takes some minutes; needs PostgreSQL 14 or later
bench-postgres *ARGS:
    scripts/postgres cargo run -q --release --manifest-path benches/postgres/Cargo.toml --target-dir target -- {{ARGS}}

# the costs and the memory of an indexer with up to 100 million streams, whose summary is generated rather than stored
bench-feed-scale RUNS="20":
    @printf '%s\n' '' '## Many streams' '' \
        'An indexer with a generated summary of so many streams, and a latency of 10 ms, printed by a test of `es-dynamo`' \
        '(`ES_SCALE_RUNS={{RUNS}} cargo test -p es-dynamo --all-features scale -- --nocapture`). The first page has 64 commits.' \
        'Each event is in another stream: half of them in new ones, half in existing ones. In the sum, read units count as a' \
        'fifth of write units.' ''
    @ES_SCALE_RUNS={{RUNS}} cargo test -q -p es-dynamo --all-features --lib scale -- --nocapture | grep '^|'

# all benchmark documents: docs/benchmarks.md, and those of the feed, the embedded engine, contention, and PostgreSQL
bench-docs: bench-feed-docs bench-embedded-docs bench-contention-docs bench-postgres-docs
    cargo build -q --release -p es-benches --bin compare --bin overhead
    cargo build -q --profile lto -p es-benches --bin overhead
    mkdir -p docs
    just bench-compare > docs/benchmarks.new
    just bench-overhead >> docs/benchmarks.new
    just bench-overhead-lto >> docs/benchmarks.new
    just bench-instructions >> docs/benchmarks.new
    just bench-compare-dynamodb-local >> docs/benchmarks.new
    mv docs/benchmarks.new docs/benchmarks.md

# docs/contention-benchmarks.md
bench-contention-docs:
    mkdir -p docs
    { printf '# Benchmarks of contention\n\n' && just bench-contention && just bench-contention-dynamodb-local; } \
        > docs/contention-benchmarks.new
    mv docs/contention-benchmarks.new docs/contention-benchmarks.md

# docs/feed-benchmarks.md
bench-feed-docs:
    mkdir -p docs
    { just bench-feed && just bench-feed-scale; } > docs/feed-benchmarks.new
    mv docs/feed-benchmarks.new docs/feed-benchmarks.md

# docs/embedded-benchmarks.md
bench-embedded-docs:
    mkdir -p docs
    just bench-embedded > docs/embedded-benchmarks.new
    mv docs/embedded-benchmarks.new docs/embedded-benchmarks.md

# docs/postgres-benchmarks.md
bench-postgres-docs:
    mkdir -p docs
    just bench-postgres > docs/postgres-benchmarks.new
    mv docs/postgres-benchmarks.new docs/postgres-benchmarks.md

# checks that the benchmark on PostgreSQL runs, without optimization: not part of `bench-smoke`, because its libraries take
# some minutes to build
bench-postgres-smoke:
    scripts/postgres cargo run -q --manifest-path benches/postgres/Cargo.toml --target-dir target -- --quick

# checks that the benchmarks run: briefly, and without optimization
bench-smoke:
    cargo run -q -p es-benches --bin overhead -- 1 50
    cargo run -q -p es-benches --bin compare -- --quick
    cargo run -q -p es-benches --bin contention -- --quick
    cargo run -q -p es-benches --bin feed -- --quick
    cargo run -q -p es-benches --bin embedded -- --quick

# docs/lines.md: the lines of code of one domain on several libraries
lines:
    scripts/lines > docs/lines.md

# checks that docs/lines.md is up to date, and that the counted versions behave the same
lines-check:
    scripts/lines | diff -u docs/lines.md - \
        || { echo "error: the lines of code have changed: run \`just lines\`" >&2; exit 1; }
    cargo run -q -p es-benches --bin lines

# compares the compile time of 240 events with that of plain serde structs: takes a few minutes; needs Python
compile-time *ARGS:
    scripts/compile-time {{ARGS}}

# checks the formatting
fmt:
    cargo fmt --all --check
    cargo fmt --check --manifest-path benches/postgres/Cargo.toml

# runs clippy, with warnings denied
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# builds the reference, with warnings denied
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# updates the lists of the public API in docs/public-api; needs cargo-public-api
public-api:
    scripts/public-api docs/public-api

# checks that docs/public-api is up to date, and shows how the public API has changed; needs cargo-public-api
public-api-check:
    scripts/public-api target/public-api
    diff -u docs/public-api target/public-api \
        || { echo "error: the public API has changed: run \`just public-api\`, and review the difference" >&2; exit 1; }

# builds the book in target/book; needs mdBook. `test` compiles and runs its snippets
book:
    mdbook build docs

# checks that every feature compiles alone
features:
    cargo clippy -p es-core -- -D warnings
    cargo clippy -p es-core --features testing -- -D warnings
    cargo clippy -p es-core --features metrics -- -D warnings
    cargo clippy -p es-core --features tracing-subscriber -- -D warnings
    cargo clippy -p es-core --features proptest -- -D warnings
    cargo clippy -p es-dynamo --no-default-features -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features aws -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features embedded -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features kinesis -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features indexer -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features kms -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features s3 -- -D warnings
    cargo clippy -p es-postgres -- -D warnings
    cargo clippy -p es-postgres --features metrics -- -D warnings
    cargo clippy -p es-tools --no-default-features -- -D warnings
    cargo clippy -p es-dynamo --no-default-features --features eventbridge,sns,sqs -- -D warnings

# checks the CloudFormation and Terraform templates of `es`, and creates the stack; needs cfn-lint and python-hcl2
templates:
    scripts/moto scripts/check-templates

# checks the explorer in a browser; needs Chromium with its WebDriver, Python 3 with selenium, and npm
explorer *arguments:
    scripts/check-explorer {{arguments}}

# runs the Lambda functions on a server that speaks the protocol of the Lambda runtime; needs Node.js and cfn-lint
lambda:
    cfn-lint examples/lambda/template.yaml
    scripts/kinesis-server cargo test --test runtime -- --include-ignored

# checks the spelling; needs typos
typos:
    typos

# docs/src/chores.md: a transcript of the chores of an operator; needs Python
chores:
    scripts/chores > docs/src/chores.new
    mv docs/src/chores.new docs/src/chores.md

# checks that docs/src/chores.md shows what `es` prints; needs Python
chores-check:
    scripts/chores | diff -u docs/src/chores.md - \
        || { echo "error: the output of es has changed: run \`just chores\`, and review the difference" >&2; exit 1; }

# packs the crates to be published, and checks that the packages compile
package:
    scripts/check-packages

# checks licenses, bans, and sources of all dependencies; needs cargo-deny
deny:
    cargo deny --locked check licenses bans sources

# checks dependencies for known vulnerabilities; needs cargo-deny and github.com, and is therefore not part of `ci`
advisories:
    cargo deny --locked check advisories

# fuzzes the decoding of items, for the given number of seconds; needs nightly and cargo-fuzz
fuzz SECONDS="300":
    cargo +nightly fuzz run -s none --codegen-units 16 items -- -max_total_time={{SECONDS}} -max_len=4096 -rss_limit_mb=1024

# everything that must pass; the CI script runs it
ci: test fmt typos lint features docs public-api-check book deny package templates explorer lambda test-dynamodb-local test-postgres test-chaos test-chaos-postgres test-kinesis test-services example-dynamodb-local example-postgres costs bench-smoke lines-check chores-check
