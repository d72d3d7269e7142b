//! Snapshots: cached states of aggregates, from which a load starts instead of the first event.
//!
//! A snapshot never changes the result of a load. It has a checksum and a fingerprint of the state's shape. A snapshot
//! that is damaged, has another fingerprint, or is ahead of its stream is ignored, and the state is folded from the
//! events.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::version::Version;

/// When snapshots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotPolicy {
    /// Never; existing ones are not read either.
    Never,
    /// After a commit that makes it at least this many events since the last one. Zero counts as one.
    Every(u32),
    /// When the events since the last one have more bytes than it has itself, and at least 4 KB.
    ///
    /// Snapshots then at most double the bytes written, and a load reads at most about twice the state,
    /// however large events and states are.
    Adaptive,
}

/// Identifies the shape of a state: snapshots with another one are of another version of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint with the value `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The fingerprint as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// How an aggregate's state is kept in snapshots: what `snapshot(…)` in its attribute stands for.
pub struct Snapshots<A> {
    policy: SnapshotPolicy,
    fingerprint: Fingerprint,
    encode: fn(&A) -> serde_json::Result<String>,
    decode: fn(&str) -> serde_json::Result<A>,
}

/// A state that has a form in snapshots: any that implements `Serialize` and `Deserialize`.
#[diagnostic::on_unimplemented(
    message = "snapshots of `{Self}` require a serializable state",
    label = "missing `Serialize` and `Deserialize`",
    note = "write `#[derive(Serialize, Deserialize)]` above the definition of `{Self}`, or remove `snapshot` from `#[aggregate(…)]`"
)]
pub trait SnapshotState: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<A: Serialize + DeserializeOwned> SnapshotState for A {}

impl<A> Snapshots<A> {
    /// Snapshots of the state as JSON, taken by `policy`; `fingerprint` changes with the state's shape.
    #[must_use]
    pub fn json(policy: SnapshotPolicy, fingerprint: Fingerprint) -> Self
    where
        A: SnapshotState,
    {
        Self {
            policy,
            fingerprint,
            encode: |state| serde_json::to_string(state),
            decode: |text| serde_json::from_str(text),
        }
    }

    /// When snapshots are taken.
    #[must_use]
    pub fn policy(&self) -> SnapshotPolicy {
        self.policy
    }

    /// The fingerprint of the state's shape.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn with_policy(self, policy: SnapshotPolicy) -> Self {
        Self { policy, ..self }
    }

    pub(crate) fn take(
        &self,
        state: &A,
        version: Version,
        time: DateTime<Utc>,
    ) -> serde_json::Result<Snapshot> {
        Ok(Snapshot::new(version, time, self.fingerprint, (self.encode)(state)?))
    }

    pub(crate) fn restore(&self, snapshot: &Snapshot) -> serde_json::Result<A> {
        (self.decode)(&snapshot.state)
    }
}

impl<A> Clone for Snapshots<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Snapshots<A> {}

impl<A> fmt::Debug for Snapshots<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots")
            .field("policy", &self.policy)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A state as a store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    version: Version,
    time: DateTime<Utc>,
    fingerprint: Fingerprint,
    state: String,
    checksum: u32,
}

impl Snapshot {
    /// The snapshot of a `state` of the shape `fingerprint` after the event `version`, whose commit was
    /// recorded at `time`.
    #[must_use]
    pub fn new(version: Version, time: DateTime<Utc>, fingerprint: Fingerprint, state: String) -> Self {
        let checksum = checksum(version, time, fingerprint, &state);
        Self { version, time, fingerprint, state, checksum }
    }

    /// A snapshot as it was found in a store, with the checksum that was stored.
    #[must_use]
    pub fn from_stored(
        version: Version,
        time: DateTime<Utc>,
        fingerprint: Fingerprint,
        state: String,
        checksum: u32,
    ) -> Self {
        Self { version, time, fingerprint, state, checksum }
    }

    /// The version of the last event in the state.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// When the commit of the last event in the state was recorded.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        self.time
    }

    /// The fingerprint of the state's shape.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The state, encoded.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The checksum to store.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Whether the snapshot has the shape `fingerprint` and is undamaged.
    #[must_use]
    pub fn fits(&self, fingerprint: Fingerprint) -> bool {
        self.fingerprint == fingerprint
            && self.checksum == checksum(self.version, self.time, self.fingerprint, &self.state)
    }
}

/// Shows the length of the state, not its content: it may be confidential.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("version", &self.version)
            .field("time", &self.time)
            .field("fingerprint", &self.fingerprint)
            .field("state", &format_args!("{} bytes", self.state.len()))
            .finish_non_exhaustive()
    }
}

/// CRC-32 over all that a snapshot says, so that a changed version is found like a changed state.
fn checksum(version: Version, time: DateTime<Utc>, fingerprint: Fingerprint, state: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&version.get().to_be_bytes());
    hasher.update(&time.timestamp_millis().to_be_bytes());
    hasher.update(&fingerprint.get().to_be_bytes());
    hasher.update(state.as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_damage_is_found() {
        let shape = Fingerprint::new(7);
        let time = DateTime::from_timestamp_millis(1_700_000_000_000).expect("valid");
        let snapshot = Snapshot::new(Version::new(5), time, shape, "{\"total\":1}".to_owned());
        assert!(snapshot.fits(shape));
        assert!(!snapshot.fits(Fingerprint::new(8)), "another shape");

        let mut damaged = snapshot.clone();
        damaged.state = "{\"total\":2}".to_owned();
        assert!(!damaged.fits(shape), "another state");

        let mut shifted = snapshot.clone();
        shifted.version = Version::new(6);
        assert!(!shifted.fits(shape), "the version of a later event");
    }
}
