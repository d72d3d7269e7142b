//! `claim` and `key`: who holds a claim, and what an idempotency key has recorded.

use clap::Args;
use es_core::store::{Claim, IdempotencyKey};
use es_core::{StreamId, chrono};
use serde_json::json;

use crate::application::Application;
use crate::failure::{Failure, Result};
use crate::output::Grid;
use crate::session::Session;

/// The options of `claim`.
#[derive(Args, Debug)]
pub(super) struct ClaimOptions {
    /// The name of the claim, such as `email`
    name: String,
    /// The claimed value
    value: String,
    /// The claim is on personal data, of which the table contains a digest. Requires an application with a keyring
    #[arg(long)]
    personal: bool,
}

/// The options of `key`.
#[derive(Args, Debug)]
pub(super) struct KeyOptions {
    /// The idempotency key
    key: String,
    /// The stream that the key belongs to; a key of a transaction has none
    #[arg(long, value_name = "STREAM")]
    stream: Option<StreamId>,
}

pub(super) async fn holder(options: &ClaimOptions, application: &Application, session: &Session) -> Result {
    let claim = match options.personal {
        true => Claim::personal(&options.name, &options.value)?,
        false => Claim::new(&options.name, &options.value)?,
    };
    let holder = application.unsealed(&session.store).claim_holder(&claim).await?.stream;
    let value = json!({ "claim": options.name, "value": options.value, "holder": holder.as_ref().map(StreamId::as_str) });
    session.output.value(&value, || match &holder {
        Some(stream) => stream.to_string(),
        None if options.personal => {
            format!("no stream holds the personal claim `{}` to this value", options.name)
        }
        None => format!(
            "no stream holds the claim `{}` to this value; for a claim on personal data, add --personal",
            options.name
        ),
    })
}

pub(super) async fn record(options: &KeyOptions, session: &Session) -> Result {
    let key = IdempotencyKey::new(options.stream.clone(), &options.key)?;
    let Some(record) = session.store.idempotency_record(&key).await?.record else {
        return Err(Failure::of(match &options.stream {
            Some(stream) => format!(
                "`{stream}` has no record under this key: it was never used, or was deleted after it expired"
            ),
            None => "no transaction has a record under this key: it was never used, or was deleted after it expired; \
                     for the key of a command, name its stream with --stream"
                .to_owned(),
        }));
    };
    let is_valid = record.is_valid_at(chrono::Utc::now());
    let ranges: Vec<_> = record
        .ranges
        .iter()
        .map(|range| {
            let events = (!range.is_empty()).then_some([range.first.get(), range.last.get()]);
            json!({ "stream": range.stream.as_str(), "events": events })
        })
        .collect();
    let value = json!({
        "id": record.id, "expires": record.expires, "expired": !is_valid, "streams": ranges,
        "fingerprint": record.fingerprint,
    });
    session.output.value(&value, || {
        let mut grid = Grid::new(["stream", "events"]);
        for range in &record.ranges {
            let events = match range.is_empty() {
                true => "none".to_owned(),
                false => format!("{} to {}", range.first, range.last),
            };
            grid.row([range.stream.to_string(), events]);
        }
        let state = if is_valid { "expires" } else { "expired" };
        format!("{grid}{state} at {}", record.expires)
    })
}
