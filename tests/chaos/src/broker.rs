//! The broker: a file to which all processes append their published events.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use es_core::BoxError;
use es_core::publish::{BatchLimits, Envelope, PublishError, Publisher};
use fastrand::Rng;

/// A publisher that sometimes fails before or after it writes a batch, and sometimes rejects part of one.
#[derive(Debug)]
pub(crate) struct Broker {
    file: File,
    faults: f64,
    random: Mutex<Rng>,
}

impl Broker {
    pub(crate) fn open(path: &Path, seed: u64, faults: f64) -> Result<Self, BoxError> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, faults, random: Mutex::new(Rng::with_seed(seed)) })
    }

    fn happens(&self) -> bool {
        self.random.lock().is_ok_and(|mut random| random.f64() < self.faults)
    }
}

#[async_trait]
impl Publisher for Broker {
    fn limits(&self) -> BatchLimits {
        BatchLimits::default().envelopes(10)
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        if self.happens() {
            return Err(PublishError::transient("the broker cannot be reached"));
        }
        let mut lines = String::new();
        let mut outcomes = Vec::new();
        for envelope in batch {
            if self.happens() {
                outcomes.push(Err(PublishError::transient("the broker is overloaded")));
                continue;
            }
            let version = envelope.id().version();
            writeln!(lines, "{version} {}", envelope.stream()).map_err(PublishError::permanent)?;
            outcomes.push(Ok(()));
        }
        // With one system call, so that the lines of several processes do not interleave.
        (&self.file).write_all(lines.as_bytes()).map_err(PublishError::permanent)?;
        if self.happens() {
            return Err(PublishError::transient("no answer from the broker"));
        }
        Ok(outcomes)
    }
}

/// Returns the version up to which each stream was published.
///
/// # Errors
///
/// If an event was published before an earlier one of its stream.
pub(crate) fn published(path: &Path) -> Result<HashMap<String, u64>, BoxError> {
    let mut published: HashMap<String, u64> = HashMap::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let (version, stream) = line.split_once(' ').ok_or("a line without a version")?;
        let version: u64 = version.parse()?;
        let last = published.entry(stream.to_owned()).or_default();
        if version > *last + 1 {
            return Err(format!("{stream}: version {version} was published after version {last}").into());
        }
        *last = version.max(*last);
    }
    Ok(published)
}
