//! `copy`: copying all streams of a store to another store or to a file, with claims and idempotency keys, and
//! verifying the copy.
//!
//! The source is read in the order of its feed. A commit keeps its id, time, metadata, and versions, so that a repeated
//! append is recognized, and an interrupted copy continues where it ended.

mod endpoint;
mod keys;
mod streams;
mod verify;

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use es_core::feed::{Position, Slice};
use serde_json::{Value, json};

use self::endpoint::Endpoint;
use self::keys::Keys;
use self::streams::Streams;
use self::verify::Difference;
use super::export::{ExportWriter, left_by_export};
use super::lines::Input;
use crate::arguments::{Mode, Place};
use crate::failure::{Failure, Result};
use crate::output::{Output, count, counted, on_interrupt};
use crate::session::Consent;

/// What a copy does not contain.
const NOT_COPIED: &str =
    "snapshots, the rows and checkpoints of projections, and the progress and timeouts of processes";

/// The options of `copy`.
#[derive(Args, Debug)]
#[command(after_help = "\
Addresses: `dynamodb:TABLE`, `http://HOST:PORT`, `file:PATH`, `postgres` (the URL in ES_POSTGRES_URL), \
`postgres://HOST/DATABASE`, and `export:PATH` for a file with lines of JSON (`export:-` reads standard input). A name after `#` is that of the table or the \
schema, such as `file:orders.db#orders`; the default is that of --table or --schema.")]
pub(super) struct Options {
    /// The address of the store to copy
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// The address of the store to write, which must exist; an earlier copy is continued
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// The place of the large events of the table to copy: a directory, or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    from_payload_store: Option<String>,
    /// The place of the large events of the table to write: a directory, or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "PLACE", value_parser = NonEmptyStringValueParser::new())]
    to_payload_store: Option<String>,
    /// Write the version and the digest of each stream to this file, as lines of JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The counts of a copy.
#[derive(Debug, Default)]
struct Copied {
    /// The events that were not in the target before.
    events: u64,
    claims: u64,
    released: u64,
    keys: u64,
}

pub(super) async fn run(options: &Options, place: &Place, mode: Mode) -> Result {
    if options.from == options.to {
        return Err(Failure::of("the source and the target of a copy must differ"));
    }
    let source = Endpoint::source(&options.from, options.from_payload_store.as_deref(), place).await?;
    let mut target = Endpoint::target(&options.to, options.to_payload_store.as_deref(), place).await?;
    if options.from_payload_store.is_some()
        && options.from_payload_store == options.to_payload_store
        && source.table() == target.table()
    {
        return Err(Failure::of(
            "two tables of the same name need different payload stores: each would delete the objects of the other",
        ));
    }
    let output = Output::new(mode.json);
    let ends = source.ends().await?;
    let keys = Keys::of(source.keys().await?);
    let mut streams = Streams::new(output, &ends);
    if mode.dry_run {
        streams.scan(&source, &ends, &target).await?;
        Consent::new(mode).to(&change(&streams, &keys))?;
        return Ok(());
    }
    let mut copied = Copied::default();
    match &target {
        Endpoint::Output(path) => {
            on_interrupt(left_by_export(path))?;
            let mut file = ExportWriter::create(path)?;
            copied.events = streams.write(&source, &ends, &mut file).await?;
            for key in keys.all() {
                file.key(&key)?;
            }
            file.finish()?;
            (copied.claims, copied.keys) = (keys.claims.len() as u64, keys.records.len() as u64);
            // It is read, to be verified.
            target = Endpoint::Input(Input::open(path.clone()).await?);
        }
        Endpoint::Input(_) => {}
        Endpoint::Store(store) => {
            on_interrupt("the events so far are copied: run the same command to continue")?;
            copied.events =
                streams.copy(&source, &ends, store, &keys.free_in(&Keys::of(target.keys().await?))).await?;
            streams.erase_ended(store).await?;
        }
    }
    let mut differences = streams.verify(&target, output).await?;
    // Keys are not written to a store that has other streams.
    if let (Endpoint::Store(store), true) = (&target, differences.is_empty()) {
        keys.write(store, &streams, &mut copied).await?;
    }
    differences.extend(keys.verify(&Keys::of(target.keys().await?)));
    differences.extend(verify::source(&source).await?);
    let behind = behind(&ends, &source.ends().await?, streams.events());
    if let Some(path) = &options.report {
        streams.report(path)?;
    }
    report(output, &streams, &copied, &differences, behind)
}

/// Describes what a copy would do.
fn change(streams: &Streams, keys: &Keys) -> String {
    format!(
        "copy {} of {}, of {}, and compare {} and {}",
        count(streams.missing()),
        counted(streams.events(), "event"),
        counted(streams.count(), "stream"),
        counted(keys.claims.len() as u64, "claim"),
        counted(keys.records.len() as u64, "idempotency key"),
    )
}

/// Returns how many events the source has recorded since the copy began, which may have missed them.
fn behind(begun: &[(Slice, Position)], now: &[(Slice, Position)], copied: u64) -> u64 {
    let sum = |ends: &[(Slice, Position)]| ends.iter().map(|(_, end)| end.get()).sum::<u64>();
    sum(now).saturating_sub(sum(begun).max(copied))
}

fn report(
    output: Output,
    streams: &Streams,
    copied: &Copied,
    differences: &[Difference],
    behind: u64,
) -> Result {
    let value = json!({
        "streams": streams.count(), "events": streams.events(), "copied": copied.events, "claims": copied.claims,
        "released_claims": copied.released, "idempotency_keys": copied.keys, "behind": behind,
        "verified": differences.is_empty(), "personal_data": streams.has_personal_data(), "not_copied": NOT_COPIED,
        "differences": differences.iter().map(Difference::value).collect::<Vec<Value>>(),
    });
    output.value(&value, || {
        let all = counted(streams.events(), "event");
        let present = counted(streams.events() - copied.events, "event");
        let mut lines = vec![
            format!(
                "copied {}, {}, and {}; already in the target: {present}",
                counted(copied.events, "event"),
                counted(copied.claims, "claim"),
                counted(copied.keys, "idempotency key")
            ),
            format!("not copied: {NOT_COPIED}"),
        ];
        if copied.released > 0 {
            lines
                .push(format!("released {} that the source has released", counted(copied.released, "claim")));
        }
        if streams.has_personal_data() {
            lines.push("personal data is copied sealed: use the copy with the same keyring".to_owned());
        }
        lines.extend(differences.iter().map(Difference::to_string));
        if behind > 0 {
            lines.push(format!(
                "the source has recorded {}: stop its writers, and copy again",
                counted(behind, "more event")
            ));
        }
        if differences.is_empty() {
            let streams = counted(streams.count(), "stream");
            lines.push(format!(
                "verified: {all} of {streams}, all claims, and all idempotency keys are equal"
            ));
        }
        lines.join("\n")
    })?;
    if differences.is_empty() && behind == 0 { Ok(()) } else { Err(Failure::Found) }
}
