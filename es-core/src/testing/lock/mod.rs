//! The schema lock: what is stored, under version control.

mod compare;
mod file;
#[cfg(test)]
mod tests;

use std::env;
use std::path::PathBuf;

use file::{Aggregates, Events, Version};

use crate::aggregate::Aggregate;
use crate::event::{Event, EventData, EventKind};

/// The variable that has the lock written instead of compared.
const UPDATE: &str = "UPDATE_SCHEMA";

/// Guards the shape of everything that is stored, with a file under version control.
///
/// The file holds every stored name of every aggregate, with the fields of each schema version, the types
/// that take part in them ([`Schema`](crate::Schema)), and samples of their payloads. The test fails, with what
/// to do about it, when a shape has changed without a new version, when a stored name or a version can no
/// longer be read, when a sample can no longer be decoded, and when something is not in the file yet.
///
/// ```no_run
/// # use es_core::prelude::*;
/// # #[event] pub struct Deposited { pub cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "account", id = String, events(Deposited))]
/// # pub struct Account;
/// # impl Apply<Deposited> for Account { fn apply(&mut self, _: &Deposited) {} }
/// use es_core::testing::SchemaLock;
///
/// #[test]
/// fn what_is_stored_can_be_read_for_ever() {
///     SchemaLock::at("schema.json").aggregate::<Account>(events![Deposited { cents: 500 }]).check();
/// }
/// # fn main() {}
/// ```
///
/// The first run writes the file; from then on, `UPDATE_SCHEMA=1 cargo test` does, after a change that was
/// meant. Samples are only ever added: those of old versions are decoded for ever.
#[must_use = "nothing is checked without `check`"]
#[derive(Debug)]
pub struct SchemaLock {
    path: PathBuf,
    current: Aggregates,
    problems: Vec<String>,
    decoders: Vec<Decoder>,
}

/// What reads the events of one aggregate.
#[derive(Debug)]
struct Decoder {
    aggregate: &'static str,
    retired: &'static [&'static str],
    /// Every kind that is read, each version of it, with the names that it is stored under.
    kinds: &'static [EventKind],
    decode: fn(&EventData) -> Result<(), String>,
}

impl SchemaLock {
    /// A lock in the file `path`, which starts at the package's folder, where `cargo test` runs.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), current: Aggregates::default(), problems: Vec::new(), decoders: Vec::new() }
    }

    /// Adds an aggregate, with samples of its events: one of each kind, as a rule.
    pub fn aggregate<A: Aggregate>(mut self, samples: impl Into<crate::Events<A>>) -> Self {
        if self.decoders.iter().any(|known| known.aggregate == A::NAME) {
            self.problems.push(format!(
                "two aggregates have the name `{}`: their streams would be mixed up; give one of them another name",
                A::NAME
            ));
            return self;
        }
        let mut events = Events::default();
        for kind in A::Event::KINDS {
            add_versions(&mut events, kind);
        }
        for sample in samples.into().as_slice() {
            match sample.to_data() {
                Ok(stored) => add_sample(&mut events, &stored),
                Err(error) => {
                    self.problems.push(format!("a sample of `{}` cannot be stored: {error}", A::NAME));
                }
            }
        }
        self.current.insert(A::NAME.to_owned(), events);
        self.decoders.push(Decoder {
            aggregate: A::NAME,
            retired: A::RETIRED,
            kinds: A::Event::KINDS,
            decode: |stored| A::Event::decode(stored).map(drop).map_err(|error| error.to_string()),
        });
        self
    }

    /// Compares what is stored with the file; or writes it, when there is none, or `UPDATE_SCHEMA` is set.
    ///
    /// # Panics
    ///
    /// When the two differ; the message shows in what, and says what to do. When the file cannot be read or
    /// written; and when there is none while the variable `CI` is set, which would make of it a test that
    /// cannot fail.
    #[track_caller]
    pub fn check(self) {
        let is_set = |name| {
            env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0" && value != "false")
        };
        if let Err(problems) = self.settle(is_set(UPDATE), is_set("CI")) {
            panic!("{problems}");
        }
    }

    fn settle(self, update: bool, is_ci: bool) -> Result<(), String> {
        let path = self.path.clone();
        let failed = |what: &str, error: std::io::Error| {
            format!("the schema lock {} cannot be {what}: {error}", path.display())
        };
        let locked = file::read(&path).map_err(|error| failed("read", error))?;
        if locked.is_none() && !update && is_ci {
            return Err(format!(
                "there is no schema lock {}: run the test once and put the file under version control",
                path.display()
            ));
        }
        let accepted = update || locked.is_none();
        let locked = locked.unwrap_or_default();
        self.compare(&locked, accepted)?;
        match accepted {
            true => file::write(&path, &file::merged(self.current, locked))
                .map_err(|error| failed("written", error)),
            false => Ok(()),
        }
    }

    /// All that is wrong; with `accepted`, only what cannot be accepted.
    fn compare(&self, locked: &Aggregates, accepted: bool) -> Result<(), String> {
        let mut problems = self.problems.clone();
        for decoder in &self.decoders {
            let empty = Events::default();
            let locked = locked.get(decoder.aggregate).unwrap_or(&empty);
            let current = self.current.get(decoder.aggregate).unwrap_or(&empty);
            problems.extend(compare::losses(decoder, locked));
            if !accepted {
                problems.extend(compare::changes(decoder, locked, current));
            }
        }
        if !accepted {
            let gone = locked.keys().filter(|name| !self.current.contains_key(*name));
            problems.extend(gone.map(|name| {
                format!("the aggregate `{name}` is in the schema lock, and not in the test: add it to the test again")
            }));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(format!("{} does not agree with the code:\n\n{}", self.path.display(), problems.join("\n\n")))
    }
}

/// Adds a kind in all its versions.
fn add_versions(events: &mut Events, kind: &EventKind) {
    for version in kind.versions() {
        let types = version.types();
        let types = types.iter().map(|(name, parts)| (name.to_owned(), file::fields(parts)));
        let entry =
            Version { fields: file::fields(version.fields()), types: types.collect(), samples: Vec::new() };
        events.entry(version.name().to_owned()).or_default().insert(version.version(), entry);
    }
}

fn add_sample(events: &mut Events, stored: &EventData) {
    let version = events.get_mut(stored.name()).and_then(|versions| versions.get_mut(&stored.version()));
    // It was encoded a moment ago.
    if let (Some(version), Ok(payload)) = (version, serde_json::from_str(stored.payload())) {
        version.samples.push(payload);
    }
}
