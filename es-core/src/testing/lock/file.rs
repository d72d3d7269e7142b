//! The file of a schema lock.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Field;

/// Aggregates by their names; others by the names of [`Owner`](super::Owner).
pub(super) type Aggregates = BTreeMap<String, Events>;
/// Events by their stored names, each with its versions.
pub(super) type Events = BTreeMap<String, BTreeMap<u32, Version>>;
/// Fields by their names, each with its type.
pub(super) type Fields = BTreeMap<String, String>;

/// One schema version of one event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    pub(super) fields: Fields,
    /// The types that the fields are made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) types: BTreeMap<String, Fields>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) samples: Vec<Sample>,
}

/// A payload as it was stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) stored: Value,
    /// The value that it is read as, in its `Debug` form.
    #[serde(default)]
    pub(super) decoded: String,
}

impl Version {
    /// Fields and types as text, for a comparison line by line.
    pub(super) fn shape(&self) -> impl std::fmt::Debug + PartialEq + '_ {
        (&self.fields, &self.types)
    }
}

pub(super) fn fields(fields: &[Field]) -> Fields {
    fields.iter().map(|field| (field.name.to_owned(), field.ty.to_owned())).collect()
}

/// What is in the file; `None` when there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Aggregates>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn write(path: &Path, aggregates: &Aggregates) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(aggregates)?;
    text.push('\n');
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    // Only what is new: an unchanged file keeps its time.
    if fs::read_to_string(path).is_ok_and(|existing| existing == text) {
        return Ok(());
    }
    fs::write(path, text)
}

/// What is current, with all that was locked before: old versions, and old samples.
pub(super) fn merged(current: Aggregates, locked: Aggregates) -> Aggregates {
    let mut merged = locked;
    for (aggregate, events) in current {
        let kept = merged.entry(aggregate).or_default();
        for (name, versions) in events {
            let kept = kept.entry(name).or_default();
            for (number, version) in versions {
                let kept = kept.entry(number).or_default();
                kept.fields = version.fields;
                kept.types = version.types;
                for sample in version.samples {
                    if !kept.samples.iter().any(|known| known.stored == sample.stored) {
                        kept.samples.push(sample);
                    }
                }
            }
        }
    }
    merged
}
