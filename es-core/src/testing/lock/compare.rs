//! Differences between the code and the schema lock.

use super::Decoder;
use super::file::{Events, Sample, Version};
use crate::event::EventKind;
use crate::testing::{diff, diff_of_texts};

/// Returns stored data that can no longer be read, which no update of the lock can accept.
pub(super) fn losses(decoder: &Decoder, locked: &Events) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, versions) in locked {
        if decoder.retired.contains(&name.as_str()) {
            continue;
        }
        let Some(kind) = decoder.kinds.iter().find(|kind| kind.matches(name)) else {
            problems.push(format!(
                "{aggregate} no longer knows the stored name `{name}`, so streams that hold it cannot be loaded.\n\
                 Was the event renamed? Write `alias = \"{name}\"` on it.\n\
                 Is it obsolete? Write `retired(\"{name}\")` in `#[aggregate(…)]`.",
                aggregate = decoder.owner,
            ));
            continue;
        };
        for (number, version) in versions {
            problems.extend(version_loss(decoder, kind, name, *number));
            problems.extend(sample_losses(decoder, name, *number, version));
        }
    }
    problems
}

fn version_loss(decoder: &Decoder, kind: &EventKind, name: &str, number: u32) -> Option<String> {
    if kind.versions().any(|version| version.version() == number) {
        return None;
    }
    let aggregate = decoder.owner;
    Some(match number > kind.version() {
        true => format!(
            "`{name}` of {aggregate} has been stored with version {number}, and the code has gone back to version {}.\n\
             Versions only grow: write `version = {number}` with its `previous`, or a later one.",
            kind.version(),
        ),
        false => format!(
            "`{name}` of {aggregate} can no longer be read in version {number}.\n\
             Keep the struct of that version, and name it in the `previous` of the version after it."
        ),
    })
}

fn sample_losses(decoder: &Decoder, name: &str, number: u32, version: &Version) -> Vec<String> {
    let mut problems = Vec::new();
    for sample in &version.samples {
        if let Err(error) = decoder.decoded(name, number, &sample.stored) {
            problems.push(format!(
                "`{name}` of {} in version {number} has been stored as {}, which can no longer be read: {error}\n\
                 Stored data cannot be changed: {}",
                decoder.owner,
                sample.stored,
                decoder.owner.advice(name, number),
            ));
        }
    }
    problems
}

/// Returns changed and new schemas, to be reviewed and accepted.
pub(super) fn changes(decoder: &Decoder, locked: &Events, current: &Events) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, versions) in current {
        for (number, version) in versions {
            let known = locked.get(name).and_then(|versions| versions.get(number));
            problems.extend(match known {
                None => Some(format!(
                    "`{name}` of {} in version {number} is not in the schema lock yet.\n\
                     Before it is stored for the first time: run the test with UPDATE_SCHEMA=1, and commit the file.",
                    decoder.owner
                )),
                Some(known) => change(decoder, name, *number, known, version),
            });
        }
    }
    problems
}

fn change(decoder: &Decoder, name: &str, number: u32, known: &Version, version: &Version) -> Option<String> {
    let aggregate = decoder.owner;
    if known.shape() != version.shape() {
        return Some(format!(
            "the shape of `{name}` of {aggregate} has changed, and its version is still {number}:\n{}\n\
             Events of the old shape are stored: {}\n\
             If old payloads still fit, because a field was added with `#[serde(default)]`, or a type only has\n\
             another name: run the test with UPDATE_SCHEMA=1, and commit the file.",
            diff(&known.shape(), &version.shape()),
            decoder.owner.advice(name, number),
        ));
    }
    let is_new = |sample: &&Sample| !known.samples.iter().any(|known| known.stored == sample.stored);
    let new = version.samples.iter().find(is_new)?;
    Some(format!(
        "a sample of `{name}` of {aggregate} in version {number} is not in the schema lock: {}\n\
         Is the sample new? Run the test with UPDATE_SCHEMA=1, and commit the file.\n\
         Is it an old sample that is now stored in another form? Then {}",
        new.stored,
        decoder.owner.advice(name, number),
    ))
}

/// Returns samples that decode to a different value, because an alias, a default, a format, or an upcast has
/// changed.
pub(super) fn other_values(decoder: &Decoder, locked: &Events) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, versions) in locked {
        for (number, sample) in versions
            .iter()
            .flat_map(|(number, version)| version.samples.iter().map(move |sample| (*number, sample)))
        {
            match decoder.decoded(name, number, &sample.stored) {
                Ok(decoded) if decoded != sample.decoded => problems.push(format!(
                    "`{name}` of {} in version {number}, stored as {}, is read as another value:\n{}\n\
                     Is information lost, because an alias, a default, or a format is different? Then {}\n\
                     If the new value is equivalent: run the test with UPDATE_SCHEMA=1, and commit the file.",
                    decoder.owner,
                    sample.stored,
                    diff_of_texts(&format!("{}\n", sample.decoded), &format!("{decoded}\n")),
                    decoder.owner.advice(name, number),
                )),
                _ => {}
            }
        }
    }
    problems
}
