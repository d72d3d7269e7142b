//! The schema lock: stored schemas under version control.

mod compare;
mod file;
#[cfg(test)]
mod tests;

use std::env;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::path::PathBuf;

use file::{Aggregates, Events, Sample, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::aggregate::Aggregate;
use crate::event::{DecodeError, EncodeError, Event, EventData, EventKind, decode_json, encode_json};
use crate::events::IntoEvents;
use crate::metadata::MetadataValue;
use crate::personal::testing::{from_sample, to_sample};
use crate::process::{Process, React};
use crate::read_model::Row;
use crate::schema::Schema;

/// The environment variable that updates the lock instead of checking it.
const UPDATE: &str = "UPDATE_SCHEMA";

/// Guards the schemas of stored data with a file under version control.
///
/// The file contains every stored event name of every aggregate, with the fields of each schema version, the types that
/// they use ([`Schema`](crate::Schema)), and sample payloads with the values that they decode to. serde attributes are
/// part of a schema. Samples of [personal data](crate::personal) are in plain text, so do not use real values. The test
/// fails with instructions if a schema has changed without a new version, if a stored name or version can no longer be
/// read, if a sample no longer decodes or decodes to a different value, or if something is missing from the file.
/// Timeouts of [processes](Self::process), [rows](Self::rows), and [metadata](Self::metadata) are locked in the same
/// way.
///
/// ```no_run
/// # use es_core::prelude::*;
/// # #[event] pub struct Deposited { pub cents: u64 }
/// # #[derive(Aggregate, Default)]
/// # #[aggregate(name = "account", id = String, events(Deposited))]
/// # pub struct Account;
/// # #[handlers]
/// # impl Account {
/// #     #[apply]
/// #     fn deposited(&mut self, _: &Deposited) {}
/// # }
/// use es_core::testing::SchemaLock;
///
/// #[test]
/// fn what_is_stored_can_be_read_for_ever() {
///     SchemaLock::at("schema.json").aggregate::<Account>(events![Deposited { cents: 500 }]).check();
/// }
/// # fn main() {}
/// ```
///
/// The first run writes the file. After an intended change, update it with `UPDATE_SCHEMA=1 cargo test`. Samples
/// are never removed, so those of old versions are always decoded.
#[must_use = "nothing is checked without `check`"]
#[derive(Debug)]
pub struct SchemaLock {
    path: PathBuf,
    current: Aggregates,
    problems: Vec<String>,
    decoders: Vec<Decoder>,
}

/// Samples of a process's timeouts. See [`SchemaLock::process`].
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

/// Decodes everything that one owner stores.
#[derive(Debug)]
struct Decoder {
    owner: Owner,
    retired: &'static [&'static str],
    /// Every kind of event, with each version and the names under which it is stored.
    kinds: Vec<EventKind>,
    /// Returns the `Debug` form of the decoded value.
    decode: fn(&EventData) -> Result<String, String>,
}

impl Decoder {
    /// Returns the `Debug` form of a decoded sample.
    fn decoded(&self, name: &str, version: u32, stored: &Value) -> Result<String, String> {
        // The `Debug` form of a hash set or hash map varies.
        const ATTEMPTS: usize = 32;
        let payload = from_sample(&stored.to_string())?;
        let stored = EventData::new(name.to_owned(), version, payload);
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
    /// Creates a lock with the file `path`, relative to the package directory, in which `cargo test` runs.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), current: Aggregates::default(), problems: Vec::new(), decoders: Vec::new() }
    }

    /// Adds an aggregate with samples of its events, usually one of each kind.
    pub fn aggregate<A: Aggregate>(self, samples: impl IntoEvents<A>) -> Self {
        let samples: Vec<_> = samples.into_events().as_slice().iter().map(Event::to_data).collect();
        let decoder = Decoder {
            owner: Owner::Aggregate(A::NAME),
            retired: A::RETIRED,
            kinds: A::Event::KINDS.to_vec(),
            decode: |stored| read(A::Event::decode(stored)),
        };
        self.add(decoder, samples)
    }

    /// Adds the timeouts of a process, with samples. Timeouts are stored until they are due, and may be read by
    /// newer code.
    ///
    /// The events of a process are those of its state: add the state as an [`aggregate`](Self::aggregate).
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
    /// If the schema changes, rebuild the projection, or keep old rows readable with `#[serde(default)]`.
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

    /// Compares the code with the file. Writes the file instead if it does not exist or if `UPDATE_SCHEMA` is set.
    ///
    /// # Panics
    ///
    /// Panics with instructions if they differ. Panics if the file cannot be read or written. If the variable `CI` is
    /// set, also panics if the file does not exist, because the test could not fail otherwise.
    #[track_caller]
    pub fn check(self) {
        if let Err(problems) = self.settle(Run::from_env()) {
            panic!("{problems}");
        }
    }

    fn settle(self, run: Run) -> Result<(), String> {
        let path = self.path.clone();
        let failed = |what: &str, error: std::io::Error| {
            format!("the schema lock {} cannot be {what}: {error}", path.display())
        };
        let locked = file::read(&path).map_err(|error| failed("read", error))?;
        if locked.is_none() && run == Run::InCi {
            return Err(format!(
                "there is no schema lock {}, and none is written while the variable `CI` is set: run the test once \
                 with {UPDATE}=1, and put the file under version control",
                path.display()
            ));
        }
        let accepted = run == Run::Update || locked.is_none();
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

    /// Returns all problems or, with `accepted`, only those that an update cannot resolve.
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

/// How the test is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// On a developer's machine, where a missing lock is written.
    Locally,
    /// In a CI job, where a missing lock is an error.
    InCi,
    /// To accept the changes.
    Update,
}

impl Run {
    fn from_env() -> Self {
        let is_set = |name| {
            env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0" && value != "false")
        };
        match (is_set(UPDATE), is_set("CI")) {
            (true, _) => Self::Update,
            (false, true) => Self::InCi,
            (false, false) => Self::Locally,
        }
    }
}

/// Adds all versions of an event kind.
fn add_versions(events: &mut Events, kind: &EventKind) {
    for version in kind.versions() {
        let types = version.types();
        let types = types.iter().map(|(name, parts)| (name.to_owned(), file::fields(parts)));
        let entry =
            Version { fields: file::fields(version.fields()), types: types.collect(), samples: Vec::new() };
        events.entry(version.name().to_owned()).or_default().insert(version.version(), entry);
    }
}

/// Adds a sample, which must be decodable.
fn add_sample(events: &mut Events, decoder: &Decoder, stored: &EventData) -> Result<(), String> {
    let payload = to_sample(stored.payload())?;
    let payload: Value = serde_json::from_str(&payload).map_err(|error| error.to_string())?;
    let decoded = decoder.decoded(stored.name(), stored.version(), &payload)?;
    let version = events.get_mut(stored.name()).and_then(|versions| versions.get_mut(&stored.version()));
    if let Some(version) = version {
        version.samples.push(Sample { stored: payload, decoded });
    }
    Ok(())
}

/// Records the decoded values of all samples of an owner.
fn decode_samples(aggregates: &mut Aggregates, decoder: &Decoder) {
    let Some(events) = aggregates.get_mut(&decoder.owner.key()) else { return };
    for (name, versions) in events {
        for (number, version) in versions {
            for sample in &mut version.samples {
                // Samples of retired events are not decoded.
                if let Ok(decoded) = decoder.decoded(name, *number, &sample.stored) {
                    sample.decoded = decoded;
                }
            }
        }
    }
}

/// Returns the `Debug` form of a value, or its decoding error.
fn read<T: Debug>(decoded: Result<T, DecodeError>) -> Result<String, String> {
    decoded.map(|value| format!("{value:?}")).map_err(|error| error.to_string())
}

/// The owner of stored data, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Aggregate(&'static str),
    /// The timeouts of a process.
    Process(&'static str),
    Rows(&'static str),
    Metadata(&'static str),
}

/// The prefix of the keys of owners other than aggregates, whose names cannot start with it.
const OTHERS: char = '$';

impl Owner {
    fn name(self) -> &'static str {
        match self {
            Self::Aggregate(name) | Self::Process(name) | Self::Rows(name) | Self::Metadata(name) => name,
        }
    }

    /// Returns the key of the owner in the file.
    fn key(self) -> String {
        match self {
            Self::Aggregate(name) => name.to_owned(),
            Self::Process(name) => format!("{OTHERS}process {name}"),
            Self::Rows(name) => format!("{OTHERS}rows {name}"),
            Self::Metadata(name) => format!("{OTHERS}metadata {name}"),
        }
    }

    /// Describes the owner with this key in the file.
    fn described(key: &str) -> String {
        match key.strip_prefix(OTHERS).and_then(|key| key.split_once(' ')) {
            Some((what, name)) => format!("the {what} `{name}`"),
            None => format!("the aggregate `{key}`"),
        }
    }

    /// Returns the problem of two types with the same name.
    fn is_twice(self) -> String {
        match self {
            Self::Aggregate(name) => format!(
                "two aggregates have the name `{name}`: their streams would be mixed up; give one of them another name"
            ),
            _ => format!("{self} are in the test twice: give one of them another name"),
        }
    }

    /// Returns what to do instead of a change that makes `name` in version `number` unreadable.
    fn advice(self, name: &str, number: u32) -> String {
        match self {
            Self::Aggregate(_) | Self::Process(_) => {
                let next = number + 1;
                format!(
                    "keep the old struct as `{name}V{number}`, and write `#[event(version = {next}, previous = {name}V{number})]` \
                     on the new one, with a `From<{name}V{number}>`."
                )
            }
            Self::Rows(_) => {
                "keep old rows readable with `#[serde(default)]` or `#[serde(alias = …)]`, or rebuild the \
                              projection in the same release."
                    .to_owned()
            }
            Self::Metadata(_) => {
                "keep old values readable with `#[serde(default)]` or `#[serde(alias = …)]`, or give the \
                                  new type another key."
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregate(name) => write!(f, "`{name}`"),
            Self::Process(name) => write!(f, "the process `{name}`"),
            Self::Rows(name) => write!(f, "the rows `{name}`"),
            Self::Metadata(name) => write!(f, "the metadata `{name}`"),
        }
    }
}
