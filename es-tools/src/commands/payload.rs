//! `payload`: the payload store of events and snapshots that do not fit into an item.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Subcommand;
use es_core::payloads::PayloadName;
use es_dynamo::{Reconciler, SweepOptions};
use serde_json::json;

use crate::arguments::{Mode, Place};
use crate::failure::{Failure, Result};
use crate::output::{Output, count, counted};
use crate::session::Consent;

/// The commands of `payload`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Delete the objects that no item refers to, in two runs at least an hour apart; reads the whole table
    Sweep {
        /// Consider objects that are at least this old
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        min_age: u64,
        /// How many segments of the table to scan concurrently
        #[arg(long, value_name = "COUNT", default_value_t = 4)]
        segments: u32,
    },
}

pub(super) async fn run(command: Command, place: &Place, mode: Mode) -> Result {
    let Command::Sweep { min_age, segments } = command;
    place.check_dynamo("payload", "PostgreSQL stores large values itself")?;
    if place.payload_store.is_none() {
        return Err(Failure::of("there is nothing to sweep: name the payload store with `--payload-store`"));
    }
    let (output, consent) = (Output::new(mode.json), Consent::new(mode));
    let store = place.open_dynamo().await?;
    let options = SweepOptions::new().with_min_age(Duration::from_secs(min_age.saturating_mul(3_600)));
    let reconciler = Reconciler::builder(&store).segments(segments).build();
    if mode.dry_run {
        let report = reconciler.sweep_payloads(options.with_dry_run(true)).await?;
        let deleted = counted(report.deleted.len() as u64, "object");
        let closed = count(report.closed.len() as u64);
        consent.to(&format!("delete {deleted}, and mark {closed} for a later run"))?;
        return Ok(());
    }
    if !consent.to_lose("delete the objects that no item refers to")? {
        return Ok(());
    }
    let report = reconciler.sweep_payloads(options).await?;
    let names = |names: &BTreeSet<PayloadName>| names.iter().map(PayloadName::to_string).collect::<Vec<_>>();
    let value = json!({
        "objects": report.objects, "bytes": report.bytes, "deleted": names(&report.deleted),
        "deleted_bytes": report.deleted_bytes, "marked": names(&report.closed),
    });
    output.value(&value, || {
        format!(
            "of {} with {}, deleted {} with {}, and marked {} for a run in an hour or later ({})",
            counted(report.objects, "object"),
            counted(report.bytes, "byte"),
            count(report.deleted.len() as u64),
            counted(report.deleted_bytes, "byte"),
            count(report.closed.len() as u64),
            report.cost,
        )
    })
}
