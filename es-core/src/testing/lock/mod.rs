//! The schema lock: what is stored, under version control.

mod compare;
mod file;
mod owner;
#[cfg(test)]
mod tests;

use std::env;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::PathBuf;

use file::{Aggregates, Events, Sample, Version};
use owner::Owner;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::aggregate::Aggregate;
use crate::event::{DecodeError, EncodeError, Event, EventData, EventKind, decode_json, encode_json};
use crate::metadata::MetadataValue;
use crate::process::{Process, React};
use crate::read_model::Row;
use crate::schema::Schema;

/// The variable that has the lock written instead of compared.
const UPDATE: &str = "UPDATE_SCHEMA";

/// Guards the shape of everything that is stored, with a file under version control.
///
/// The file holds every stored name of every aggregate, with the fields of each schema version, the types
/// that take part in them ([`Schema`](crate::Schema)), and samples of their payloads with the values that they are
/// read as. serde's attributes belong to the shape. The test fails, with what to do about it, when a shape has changed
/// without a new version, when a stored name or a version can no longer be read, when a sample can no longer be
/// decoded or is read as another value, and when something is not in the file yet. Timeouts of
/// [processes](Self::process), [rows](Self::rows), and [metadata](Self::metadata) are locked in the same way.
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

/// Samples of a process's timeouts: see [`SchemaLock::process`].
#[must_use = "samples are given back to the lock"]
#[derive(Debug)]
pub struct Timeouts<P> {
    data: Vec<Result<EventData, EncodeError>>,
    process: PhantomData<P>,
}

impl<P: Process> Timeouts<P> {
    /// Adds a sample.
    pub fn sample<E: Event>(mut self, timeout: E) -> Self
    where
        P: React<E>,
    {
        self.data.push(timeout.to_data());
        self
    }
}

/// What reads everything that one owner stores.
#[derive(Debug)]
struct Decoder {
    owner: Owner,
    retired: &'static [&'static str],
    /// Every kind that is read, each version of it, with the names that it is stored under.
    kinds: Vec<EventKind>,
    /// The `Debug` form of what is read.
    decode: fn(&EventData) -> Result<String, String>,
}

impl Decoder {
    /// Returns what a stored value is read as.
    fn decoded(&self, name: &str, version: u32, stored: &Value) -> Result<String, String> {
        // A set or a map without an order has another `Debug` form each time.
        const ATTEMPTS: usize = 32;
        let stored = EventData::new(name.to_owned(), version, stored.to_string());
        let text = (self.decode)(&stored)?;
        for _ in 1..ATTEMPTS {
            if (self.decode)(&stored)? != text {
                let mut words: Vec<_> = text.split([' ', ',', '{', '}', '[', ']', '(', ')']).collect();
                words.retain(|word| !word.is_empty());
                words.sort_unstable();
                return Ok(format!("in any order: {}", words.join(" ")));
            }
        }
        Ok(text)
    }
}

impl SchemaLock {
    /// A lock in the file `path`, which starts at the package's folder, where `cargo test` runs.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), current: Aggregates::default(), problems: Vec::new(), decoders: Vec::new() }
    }

    /// Adds an aggregate, with samples of its events: one of each kind, as a rule.
    pub fn aggregate<A: Aggregate>(self, samples: impl Into<crate::Events<A>>) -> Self {
        let samples: Vec<_> = samples.into().as_slice().iter().map(Event::to_data).collect();
        let decoder = Decoder {
            owner: Owner::Aggregate(A::NAME),
            retired: A::RETIRED,
            kinds: A::Event::KINDS.to_vec(),
            decode: |stored| read(A::Event::decode(stored)),
        };
        self.add(decoder, samples)
    }

    /// Adds the timeouts of a process, with samples. They are stored until they are due, and read by the code that
    /// runs then.
    ///
    /// The events that the process records are those of its state: add the state as an [`aggregate`](Self::aggregate).
    ///
    /// ```ignore
    /// SchemaLock::at("schema.json").process::<FulfillOrders>(|timeouts| timeouts.sample(Overdue { order }))
    /// ```
    pub fn process<P: Process>(self, samples: impl FnOnce(Timeouts<P>) -> Timeouts<P>) -> Self {
        let decoder = Decoder {
            owner: Owner::Process(P::NAME),
            retired: &[],
            kinds: P::TIMEOUTS.concat(),
            decode: |stored| P::timeout_text(stored).map_err(|error| error.to_string()),
        };
        self.add(decoder, samples(Timeouts { data: Vec::new(), process: PhantomData }).data)
    }

    /// Adds the rows of a read model, with samples.
    ///
    /// When their shape changes, rebuild the projection, or keep old rows readable with `#[serde(default)]`.
    pub fn rows<T: Row + Schema + Debug>(self, samples: impl IntoIterator<Item = T>) -> Self {
        self.values(Owner::Rows(T::NAME), samples)
    }

    /// Adds a type of the application's metadata, with samples.
    pub fn metadata<T: MetadataValue + Schema + Debug>(self, samples: impl IntoIterator<Item = T>) -> Self {
        self.values(Owner::Metadata(T::KEY), samples)
    }

    /// Adds values of one type, which are stored without a version.
    fn values<T: Serialize + DeserializeOwned + Schema + Debug>(
        self,
        owner: Owner,
        samples: impl IntoIterator<Item = T>,
    ) -> Self {
        let name = owner.name();
        let samples =
            samples.into_iter().map(|sample| Ok(EventData::new(name, 1, encode_json(name, &sample)?)));
        let samples = samples.collect();
        let decoder = Decoder {
            owner,
            retired: &[],
            kinds: vec![EventKind::new(name, 1).with_types(T::describe)],
            decode: |stored| read(decode_json::<T>(stored)),
        };
        self.add(decoder, samples)
    }

    fn add(mut self, decoder: Decoder, samples: Vec<Result<EventData, EncodeError>>) -> Self {
        if self.decoders.iter().any(|known| known.owner == decoder.owner) {
            self.problems.push(decoder.owner.is_twice());
            return self;
        }
        let mut events = Events::default();
        for kind in &decoder.kinds {
            add_versions(&mut events, kind);
        }
        for sample in samples {
            let added = match sample {
                Ok(stored) => add_sample(&mut events, &decoder, &stored),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = added {
                self.problems.push(format!("a sample of {} cannot be stored: {error}", decoder.owner));
            }
        }
        self.current.insert(decoder.owner.key(), events);
        self.decoders.push(decoder);
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
            true => {
                let mut merged = file::merged(self.current, locked);
                self.decoders.iter().for_each(|decoder| decode_samples(&mut merged, decoder));
                file::write(&path, &merged).map_err(|error| failed("written", error))
            }
            false => Ok(()),
        }
    }

    /// All that is wrong; with `accepted`, only what cannot be accepted.
    fn compare(&self, locked: &Aggregates, accepted: bool) -> Result<(), String> {
        let mut problems = self.problems.clone();
        for decoder in &self.decoders {
            let empty = Events::default();
            let key = decoder.owner.key();
            let locked = locked.get(&key).unwrap_or(&empty);
            let current = self.current.get(&key).unwrap_or(&empty);
            problems.extend(compare::losses(decoder, locked));
            if !accepted {
                problems.extend(compare::changes(decoder, locked, current));
                problems.extend(compare::other_values(decoder, locked));
            }
        }
        if !accepted {
            let gone = locked.keys().filter(|name| !self.current.contains_key(*name));
            problems.extend(gone.map(|name| {
                let what = Owner::described(name);
                format!("{what} is in the schema lock, and not in the test: add it to the test again")
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

/// Adds a sample, which must be read back as something.
fn add_sample(events: &mut Events, decoder: &Decoder, stored: &EventData) -> Result<(), String> {
    let payload: Value = serde_json::from_str(stored.payload()).map_err(|error| error.to_string())?;
    let decoded = decoder.decoded(stored.name(), stored.version(), &payload)?;
    let version = events.get_mut(stored.name()).and_then(|versions| versions.get_mut(&stored.version()));
    if let Some(version) = version {
        version.samples.push(Sample { stored: payload, decoded });
    }
    Ok(())
}

/// Records what all samples of an owner are read as now.
fn decode_samples(aggregates: &mut Aggregates, decoder: &Decoder) {
    let Some(events) = aggregates.get_mut(&decoder.owner.key()) else { return };
    for (name, versions) in events {
        for (number, version) in versions {
            for sample in &mut version.samples {
                // Those of a retired event are read no more.
                if let Ok(decoded) = decoder.decoded(name, *number, &sample.stored) {
                    sample.decoded = decoded;
                }
            }
        }
    }
}

/// The `Debug` form of a value, or why it cannot be read.
fn read<T: Debug>(decoded: Result<T, DecodeError>) -> Result<String, String> {
    decoded.map(|value| format!("{value:?}")).map_err(|error| error.to_string())
}
