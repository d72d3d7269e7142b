//! The file format of the schema lock.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Field;

/// Owners by their [`key`](super::Owner::key).
pub(super) type Aggregates = BTreeMap<String, Events>;
/// Versions of events by stored name and version number.
pub(super) type Events = BTreeMap<String, BTreeMap<u32, Version>>;
/// Types of fields by field name.
pub(super) type Fields = BTreeMap<String, String>;

/// One schema version of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    pub(super) fields: Fields,
    /// The types that the fields use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) types: BTreeMap<String, Fields>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) samples: Vec<Sample>,
}

/// A stored payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    pub(super) stored: Value,
    /// The `Debug` form of the decoded value.
    #[serde(default)]
    pub(super) decoded: String,
}

impl Version {
    /// Returns the fields and types, for a comparison line by line.
    pub(super) fn shape(&self) -> impl std::fmt::Debug + PartialEq + '_ {
        (&self.fields, &self.types)
    }
}

pub(super) fn fields(fields: &[Field]) -> Fields {
    fields.iter().map(|field| (field.name.to_owned(), field.ty.to_owned())).collect()
}

/// Reads the file. Returns `None` if it does not exist.
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
    // An unchanged file keeps its modification time.
    if fs::read_to_string(path).is_ok_and(|existing| existing == text) {
        return Ok(());
    }
    fs::write(path, text)
}

/// Merges the current schemas with all locked versions and samples.
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
