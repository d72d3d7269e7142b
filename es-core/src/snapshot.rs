//! Snapshots: cached states of aggregates, from which a load starts instead of the first event.
//!
//! A snapshot never changes the result of a load. It has a checksum and a fingerprint of the state's shape. A snapshot
//! that is damaged, has another fingerprint, or is ahead of its stream is ignored, and the state is folded from the
//! events. A snapshot from which the state cannot be restored is not written: a state that implements `PartialEq` is
//! compared with the restored one, so that a field with `#[serde(skip)]` is noticed, and any other state must at least
//! be decodable.

use std::fmt;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::without_values;
use crate::personal::{encoding, is_in_transit};
use crate::store::StoreError;
use crate::version::Version;

/// When snapshots are taken.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::snapshot::SnapshotPolicy;
/// use es_core::MemoryStore;
/// # fn example<A: Aggregate>() {
///
/// let repository: Repository<A> =
///     Repository::builder(MemoryStore::new()).snapshots(SnapshotPolicy::Every(100)).build();
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotPolicy {
    /// Snapshots are neither taken nor read.
    Never,
    /// A snapshot is taken after a commit if there are at least this many events since the last snapshot. Zero counts
    /// as one.
    Every(u32),
    /// A snapshot is taken when the events since the last snapshot are larger than that snapshot, and have at least 4
    /// KB.
    ///
    /// At most, snapshots double the bytes written, and a load reads about twice the size of the state, regardless of
    /// the size of events and states.
    Adaptive,
}

/// A fingerprint of the shape of a state. A snapshot with a different fingerprint was written by another version of the
/// code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Creates a fingerprint from a number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the fingerprint as a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The snapshot settings of an aggregate, which `snapshot(…)` in its attribute configures.
pub struct Snapshots<A> {
    policy: SnapshotPolicy,
    fingerprint: Fingerprint,
    encode: fn(&A) -> serde_json::Result<String>,
    decode: fn(&str) -> serde_json::Result<A>,
    /// Compares two states that implement `PartialEq`.
    is_equal: Option<fn(&A, &A) -> bool>,
}

/// A state that can be stored in snapshots. Implemented for all types that implement `Serialize` and `Deserialize`.
#[diagnostic::on_unimplemented(
    message = "snapshots of `{Self}` require a serializable state",
    label = "missing `Serialize` and `Deserialize`",
    note = "write `#[derive(Serialize, Deserialize)]` above the definition of `{Self}`, or remove `snapshot` from `#[aggregate(…)]`"
)]
pub trait SnapshotState: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<A: Serialize + DeserializeOwned> SnapshotState for A {}

impl<A> Snapshots<A> {
    /// Creates settings that store the state as JSON and take snapshots as `policy` says. The `fingerprint` must change
    /// with the shape of the state.
    #[must_use]
    pub fn json(policy: SnapshotPolicy, fingerprint: Fingerprint) -> Self
    where
        A: SnapshotState,
    {
        Self {
            policy,
            fingerprint,
            encode: |state| encoding(|| serde_json::to_string(state)),
            decode: |text| serde_json::from_str(text),
            is_equal: None,
        }
    }

    /// Returns when snapshots are taken.
    #[must_use]
    pub fn policy(&self) -> SnapshotPolicy {
        self.policy
    }

    /// Returns the fingerprint of the state's shape.
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

    /// Returns why `state` cannot be restored from `snapshot`, if that is the case.
    pub(crate) fn check(&self, state: &A, snapshot: &Snapshot) -> Result<(), String> {
        let restored = self
            .restore(snapshot)
            .map_err(|error| format!("the state cannot be decoded again: {}", without_values(&error)))?;
        if self.is_equal.is_some_and(|is_equal| !is_equal(state, &restored)) {
            return Err(
                "the state has another value after it was decoded again: serialize all fields, or remove \
                        `snapshot` from `#[aggregate(…)]`"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

#[allow(missing_docs)] // for generated code alone
pub(crate) mod probes {
    use super::{PhantomData, Snapshots};

    /// Compares states that implement `PartialEq`. Generated code calls `(&EqualityProbe::new()).compare(snapshots)`,
    /// for which the compiler selects the first of the two traits below that applies.
    #[derive(Debug)]
    pub struct EqualityProbe<A>(PhantomData<A>);

    impl<A> EqualityProbe<A> {
        #[allow(clippy::new_without_default)]
        #[must_use]
        pub const fn new() -> Self {
            Self(PhantomData)
        }
    }

    pub trait Equatable<A> {
        fn compare(&self, snapshots: Snapshots<A>) -> Snapshots<A>;
    }

    impl<A: PartialEq> Equatable<A> for EqualityProbe<A> {
        fn compare(&self, snapshots: Snapshots<A>) -> Snapshots<A> {
            Snapshots { is_equal: Some(A::eq), ..snapshots }
        }
    }

    pub trait NotEquatable<A> {
        fn compare(&self, snapshots: Snapshots<A>) -> Snapshots<A>;
    }

    impl<A> NotEquatable<A> for &EqualityProbe<A> {
        fn compare(&self, snapshots: Snapshots<A>) -> Snapshots<A> {
            snapshots
        }
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

/// A stored state.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    version: Version,
    time: DateTime<Utc>,
    fingerprint: Fingerprint,
    state: String,
    checksum: u32,
}

impl Snapshot {
    /// Creates a snapshot of the `state` after the event `version`, whose commit was recorded at `time`. The
    /// `fingerprint` identifies the shape of the state.
    #[must_use]
    pub fn new(version: Version, time: DateTime<Utc>, fingerprint: Fingerprint, state: String) -> Self {
        let checksum = checksum(version, time, fingerprint, &state);
        Self { version, time, fingerprint, state, checksum }
    }

    /// Creates a snapshot from stored values, including the stored checksum.
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

    /// Returns the version of the last event in the state.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the time of the commit that recorded the last event in the state.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        self.time
    }

    /// Returns the fingerprint of the state's shape.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the encoded state.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Checks that the state can be stored as it is: for stores, which must call it before a write.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the state contains [personal data](crate::personal) that is not sealed.
    pub fn check_sealed(&self) -> Result<(), StoreError> {
        match is_in_transit(&self.state) {
            true => Err(StoreError::without_keyring()),
            false => Ok(()),
        }
    }

    /// Returns the checksum to store.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Returns whether the snapshot has the fingerprint `fingerprint` and is undamaged.
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

/// Returns a CRC-32 checksum of all fields, which detects a damaged version as well as a damaged state.
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
