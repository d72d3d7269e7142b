//! Comparing a copy with its source.

use std::collections::BTreeMap;
use std::fmt;

use es_core::StreamId;
use es_core::store::Read;
use es_dynamo::Reconciler;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::streams::{Known, Streams, Summary};
use crate::failure::Result;
use crate::output::Output;
use crate::store::Store;

/// How many streams are read at the same time.
const CONCURRENCY: usize = 16;

/// A difference between the copy and its source.
#[derive(Debug)]
pub(super) struct Difference {
    /// The stream, claim, or key.
    pub(super) subject: String,
    pub(super) reason: String,
}

impl Difference {
    pub(super) fn value(&self) -> Value {
        json!({ "subject": self.subject, "reason": self.reason })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "different: {}: {}", self.subject, self.reason)
    }
}

/// Finds events of the source that its feed lacks, because no indexer has added them.
pub(super) async fn source(source: &Endpoint) -> Result<Vec<Difference>> {
    let Some(store) = source.store().and_then(Store::dynamo) else { return Ok(Vec::new()) };
    let audit = Reconciler::builder(store).build().audit().await?;
    let missing = audit.missing.iter().map(|(stream, (feed, table))| Difference {
        subject: format!("the stream `{stream}`"),
        reason: format!(
            "it is at version {table}, and at version {feed} in the feed of the source: run `feed reconcile`, and copy again"
        ),
    });
    Ok(missing.collect())
}

impl Streams {
    /// Reads all streams of the target, and compares them with those of the source.
    pub(super) async fn verify(&self, target: &Endpoint, output: Output) -> Result<Vec<Difference>> {
        let progress = output.progress(self.count(), "streams verified");
        let mut differences = Vec::new();
        match target {
            Endpoint::Store(store) => {
                let streams: Vec<(&StreamId, &Known)> = self.all.iter().collect();
                for some in streams.chunks(CONCURRENCY) {
                    let found = try_join_all(some.iter().map(|(stream, _)| summary(store, stream))).await?;
                    let pairs = some.iter().zip(&found);
                    differences.extend(
                        pairs.filter_map(|((stream, known), found)| compare(stream, &known.source, found)),
                    );
                    progress.add(some.len() as u64);
                }
            }
            Endpoint::Input(_) | Endpoint::Output(_) => {
                let mut found: BTreeMap<StreamId, Summary> = BTreeMap::new();
                let mut pages = target.pages(&[])?;
                while let Some(page) = pages.try_next().await? {
                    for (stream, commit) in page {
                        found.entry(stream.clone()).or_default().add(&stream, &commit)?;
                    }
                }
                differences.extend(self.all.iter().filter_map(|(stream, known)| {
                    compare(stream, &known.source, &found.remove(stream).unwrap_or_default())
                }));
            }
        }
        Ok(differences)
    }
}

async fn summary(store: &Store, stream: &StreamId) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut pages = store.read(Read::all(stream.clone()));
    while let Some(page) = pages.try_next().await? {
        for commit in &page.commits {
            summary.add(stream, commit)?;
        }
    }
    Ok(summary)
}

fn compare(stream: &StreamId, source: &Summary, target: &Summary) -> Option<Difference> {
    let reason = if source.last != target.last {
        format!("the source ends at version {}, the target at version {}", source.last, target.last)
    } else if source.id != target.id {
        "the last commits have different ids".to_owned()
    } else if source.digest != target.digest && !source.is_erased {
        "the digests of the commits differ".to_owned()
    } else {
        return None;
    };
    Some(Difference { subject: format!("the stream `{stream}`"), reason })
}
