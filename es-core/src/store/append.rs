//! Commits, and the request to append them to a stream.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use crate::clock::is_storable;
use crate::cost::Cost;
use crate::event::{CommitId, EventData, EventId};
use crate::metadata::Metadata;
use crate::personal::is_in_transit;
use crate::store::{AppendError, Conflict, Head, StoreError, StreamState, is_reserved};
use crate::stream_id::StreamId;
use crate::version::{ExpectedVersion, Version};

/// A commit that is not stored yet: the events of one command.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewCommit {
    /// The id of the commit. Appending a commit with the same id again is a repetition.
    pub id: CommitId,
    /// The time of the decision, in whole milliseconds.
    pub time: DateTime<Utc>,
    /// The metadata, such as who sent the command.
    pub metadata: Metadata,
    /// The events, in order; at least one.
    pub events: Vec<EventData>,
}

/// The maximum number of commits in one [`Append`].
pub const MAX_GROUP_COMMITS: usize = 100;

/// The maximum size of an [`Append`] with several commits in bytes: 300 KB, the sum of their [`NewCommit::bytes`]. It
/// fits into one item of [`MAX_ITEM_BYTES`](crate::store::MAX_ITEM_BYTES). The limits of a single commit are higher.
pub const MAX_GROUP_BYTES: u64 = 300 * 1024;

/// The maximum number of versions that an append without an expected version tries if other writers are faster.
const MAX_PLACES: u32 = 100;

/// An upper bound of the size of a commit in an append of several, without its metadata and events.
const COMMIT_FRAME_BYTES: u64 = 64;

/// An upper bound of the size of an event without its name and payload.
const EVENT_FRAME_BYTES: u64 = 16;

impl NewCommit {
    /// Returns a commit of `events` that was decided at `time`, without metadata.
    #[must_use]
    pub fn new(id: CommitId, time: DateTime<Utc>, events: Vec<EventData>) -> Self {
        Self { id, time: time.trunc_subsecs(3), metadata: Metadata::new(), events }
    }

    /// Sets the metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Returns the state of the stream after the commit if it is a lifecycle commit, see [`StreamState`].
    #[must_use]
    pub fn state(&self) -> Option<StreamState> {
        self.events.last().and_then(StreamState::after)
    }

    /// Returns the size of the commit in bytes, as it counts toward [`MAX_GROUP_BYTES`]: its metadata as JSON, the
    /// names and payloads of its events, 64 bytes for the commit, and 16 bytes for each event.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let metadata = match self.metadata.is_empty() {
            true => 0,
            false => serde_json::to_string(&self.metadata).map_or(0, |metadata| metadata.len() as u64),
        };
        let event =
            |event: &EventData| EVENT_FRAME_BYTES + (event.name().len() + event.payload().len()) as u64;
        COMMIT_FRAME_BYTES + metadata + self.events.iter().map(event).sum::<u64>()
    }
}

/// A stored commit: the events of one command.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Commit {
    /// The id of the commit.
    pub id: CommitId,
    /// The version of the first event.
    pub first: Version,
    /// The time of the decision by the writer's clock, in whole milliseconds.
    pub time: DateTime<Utc>,
    /// The metadata, such as who sent the command.
    pub metadata: Arc<Metadata>,
    /// The events, in order.
    pub events: Vec<EventData>,
}

/// The empty metadata of most commits, which they share.
static NO_METADATA: LazyLock<Arc<Metadata>> = LazyLock::new(Arc::default);

impl Commit {
    /// Returns a commit of `events` whose first event has the version `first`, without metadata.
    #[must_use]
    pub fn new(id: CommitId, first: Version, time: DateTime<Utc>, events: Vec<EventData>) -> Self {
        Self { id, first, time, metadata: Arc::clone(&NO_METADATA), events }
    }

    /// Sets the metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<Arc<Metadata>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Returns the state of the stream after the commit if it is a lifecycle commit, see [`StreamState`].
    #[must_use]
    pub fn state(&self) -> Option<StreamState> {
        self.events.last().and_then(StreamState::after)
    }

    /// Returns the size of the events in bytes, which is the length of their names and payloads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.events.iter().map(|event| (event.name().len() + event.payload().len()) as u64).sum()
    }

    /// Returns the version of the last event.
    #[must_use]
    pub fn last(&self) -> Version {
        self.first.plus(self.events.len() as u64).previous()
    }

    /// Returns the events with their versions and ids.
    pub fn numbered(&self) -> impl Iterator<Item = (Version, EventId, &EventData)> {
        self.events.iter().enumerate().map(|(index, event)| {
            let version = self.first.plus(index as u64);
            (version, EventId::new(self.id, version), event)
        })
    }
}

/// A request to append one or several commits to a stream at an expected version. Several commits are stored
/// atomically.
///
/// ```
/// use es_core::store::{Append, NewCommit};
/// # use es_core::event::{CommitId, EventData};
/// # use es_core::{ExpectedVersion, StreamId};
/// # let commit = |id| NewCommit::new(CommitId::new(uuid::Uuid::from_u128(id)), chrono::DateTime::UNIX_EPOCH,
/// #     vec![EventData::new("Deposited", 1, "{}")]);
/// let (first, second) = (commit(1), commit(2));
/// let append = Append::new(StreamId::new("account", "ann")?, ExpectedVersion::NoStream, first);
/// let append = append.with_following([second]);
/// assert_eq!(append.commits().len(), 2);
/// # Ok::<_, es_core::stream_id::InvalidStreamId>(())
/// ```
#[derive(Clone, Debug)]
pub struct Append {
    stream: StreamId,
    expected: ExpectedVersion,
    loaded: bool,
    commits: NewCommits,
    attempts: Arc<Attempts>,
}

/// What the attempts of an append share.
#[derive(Debug, Default)]
struct Attempts {
    /// The version at which the last attempt tried to store the commits, 0 if there was none.
    tried: AtomicU64,
    /// The append with its personal data sealed.
    sealed: OnceLock<Append>,
}

/// The commits of an append. Most have one, which takes no allocation.
#[derive(Clone, Debug)]
enum NewCommits {
    One(NewCommit),
    Several(Vec<NewCommit>),
}

impl Append {
    /// Appends `commit` to `stream` if that is at the `expected` version, which the store checks.
    #[must_use]
    pub fn new(stream: StreamId, expected: ExpectedVersion, commit: NewCommit) -> Self {
        let commits = NewCommits::One(commit);
        Self { stream, expected, loaded: false, commits, attempts: Arc::default() }
    }

    /// Appends `commit` after `version`, which the caller has read or written as the last version of the stream.
    ///
    /// The store does not read the end of the stream first: the condition of its write verifies the version. The stream
    /// must have ended at `version` at some time. The condition does not detect a version at the end of a commit inside
    /// an append, such as [`Read::until`](crate::store::Read::until) returns. For a version from another source, use
    /// [`Append::new`] with [`ExpectedVersion::Exact`].
    #[must_use]
    pub fn after_loaded(stream: StreamId, version: Version, commit: NewCommit) -> Self {
        Self { loaded: true, ..Self::new(stream, ExpectedVersion::Exact(version), commit) }
    }

    /// Returns the append that changes the state of `stream`, which ends at `head`, to `state`. Its commit `id` was
    /// decided at `now`, or at the time of the last commit if that is later.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`] if the stream does not accept the change, and [`StoreError::Invalid`] if it has no
    /// events, if `state` is [`StreamState::Open`], or if an open stream would be archived.
    pub fn state_change(
        stream: StreamId,
        head: &Head,
        state: &StreamState,
        id: CommitId,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        if head.version.is_none() {
            return Err(StoreError::invalid(format!("the stream `{stream}` has no events: check the id")));
        }
        if !head.state.accepts(Some(state)) {
            return Err(match head.state.is_open() {
                true => StoreError::invalid(format!("the stream `{stream}` is open: close it first")),
                false => head.closed(&stream).into(),
            });
        }
        let Some(event) = head.state.event(state) else {
            return Err(StoreError::invalid(format!("the stream `{stream}` cannot be opened again")));
        };
        // The times in a stream never run backwards.
        let time = head.time.map_or(now, |last| last.max(now));
        Ok(Self::after_loaded(stream, head.version, NewCommit::new(id, time, vec![event])))
    }

    /// Sets the metadata of the first commit.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        let first = match &mut self.commits {
            NewCommits::One(commit) => commit,
            NewCommits::Several(commits) => &mut commits[0],
        };
        first.metadata = metadata;
        self
    }

    /// Adds commits after the first one. All of them are stored atomically, in this order.
    ///
    /// An append has at most [`MAX_GROUP_COMMITS`] commits. If it has several, they have at most [`MAX_GROUP_BYTES`],
    /// and their times do not decrease.
    #[must_use]
    pub fn with_following(mut self, commits: impl IntoIterator<Item = NewCommit>) -> Self {
        let mut following = commits.into_iter().peekable();
        if following.peek().is_some() {
            let mut all = match self.commits {
                NewCommits::One(commit) => vec![commit],
                NewCommits::Several(commits) => commits,
            };
            all.extend(following);
            self.commits = NewCommits::Several(all);
        }
        self
    }

    /// Returns the stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Returns the expected version.
    #[must_use]
    pub fn expected(&self) -> ExpectedVersion {
        self.expected
    }

    /// Returns whether the expected version was read from the stream, see [`Append::after_loaded`].
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns the commits, in order; at least one.
    #[must_use]
    pub fn commits(&self) -> &[NewCommit] {
        match &self.commits {
            NewCommits::One(commit) => std::slice::from_ref(commit),
            NewCommits::Several(commits) => commits,
        }
    }

    /// Returns the id of the first commit, by which a repetition is recognized.
    #[must_use]
    pub fn id(&self) -> CommitId {
        self.commits()[0].id
    }

    /// Returns the number of events in all commits.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.commits().iter().map(|commit| commit.events.len() as u64).sum()
    }

    /// Returns the append with its personal data sealed, if an attempt has [kept](Self::keep_sealed) it.
    pub(crate) fn sealed(&self) -> Option<&Self> {
        self.attempts.sealed.get()
    }

    /// Keeps the sealed form of the commits for all attempts, unless a concurrent attempt has kept one. Returns the
    /// append that was kept.
    pub(crate) fn keep_sealed(&self, mut commits: Vec<NewCommit>) -> &Self {
        self.attempts.sealed.get_or_init(|| {
            let following = commits.split_off(1);
            let first = commits.remove(0);
            let append = Self::new(self.stream.clone(), self.expected, first).with_following(following);
            Self { loaded: self.loaded, ..append }
        })
    }

    /// Returns the version at which the last attempt tried to store the first event. For use by stores.
    ///
    /// With [`ExpectedVersion::Any`] and [`ExpectedVersion::StreamExists`], the version depends on the end of the
    /// stream, so a repetition must know the version that the last attempt targeted. Clones share it.
    #[must_use]
    pub fn tried_at(&self) -> Option<Version> {
        match self.attempts.tried.load(Ordering::SeqCst) {
            0 => None,
            version => Some(Version::new(version)),
        }
    }

    /// Moves the commits from the version `from`, which another commit has taken, to `to`. Returns the version that the
    /// next attempt must target. For use by stores.
    ///
    /// The result differs from `to` if a concurrent attempt has already moved the commits. All attempts target the same
    /// version until it is known to be taken, so the commits are never stored twice.
    #[must_use]
    pub fn try_at(&self, from: Option<Version>, to: Version) -> Version {
        let from = from.map_or(0, Version::get);
        match self.attempts.tried.compare_exchange(from, to.get(), Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => to,
            Err(elsewhere) => Version::new(elsewhere),
        }
    }

    /// Appends the commits at the end of the stream, for an append that does not name a loaded version: for stores.
    ///
    /// `head` reads the end of the stream, `append_at` appends after a version, given the cost so far, and `sleep`
    /// waits. All attempts of one `Append`, including those with an unknown outcome, target the same version until
    /// another commit is found there. Then they move on, up to 100 times, with a delay of up to 50 ms.
    ///
    /// # Errors
    ///
    /// [`AppendError::Conflict`] if the stream is not at an expected version, or other writers are faster each time;
    /// [`StoreError::Closed`] if it is closed; otherwise the errors of `head` and `append_at`.
    pub async fn at_end<H, W, S>(
        &self,
        head: impl Fn() -> H,
        append_at: impl Fn(Version, Cost) -> W,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Appended, AppendError>
    where
        H: Future<Output = Result<Head, StoreError>>,
        W: Future<Output = Result<Appended, AppendError>>,
        S: Future<Output = ()>,
    {
        let mut cost = Cost::ZERO;
        let mut place = self.tried_at();
        let mut lost = None;
        for places in 1.. {
            let first = match place.take() {
                Some(first) => first,
                None => {
                    let head = head().await?;
                    cost += head.cost;
                    head.check_accepts(self)?;
                    if !self.expected.allows(head.version) {
                        let stream = self.stream.clone();
                        return Err(Conflict::new(stream, self.expected, Some(head.version), cost).into());
                    }
                    self.try_at(lost, head.version.next())
                }
            };
            match append_at(first.previous(), cost).await {
                Err(AppendError::Conflict(conflict)) if places < MAX_PLACES => {
                    cost = conflict.cost;
                    lost = Some(first);
                    // A concurrent attempt may have moved on to the next version.
                    place = self.tried_at().filter(|tried| *tried != first);
                    let longest = Duration::from_millis(u64::from(places.min(50)));
                    sleep(longest.mul_f64(fastrand::f64())).await;
                }
                other => return other,
            }
        }
        unreachable!("the last attempt ends the loop")
    }

    /// Checks the commits, and returns the version of their last event if they are appended after `version`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if a commit has no events, its time is not in the years 1 to 9999, or the stream would
    /// exceed [`Version::MAX`]; also if there are too many commits, two have the same id, their times decrease, or an
    /// event has no name, the schema version 0, or a name that is reserved for the framework. [`StoreError::TooLarge`]
    /// if several commits exceed [`MAX_GROUP_BYTES`].
    pub fn last_version_after(&self, version: Version) -> Result<Version, StoreError> {
        for commit in self.commits() {
            if commit.events.is_empty() {
                return Err(StoreError::invalid(
                    "a commit without events cannot be appended: add an event, or append nothing",
                ));
            }
            if !is_storable(commit.time) {
                return Err(StoreError::invalid(format!(
                    "the time {} of a commit to the stream `{}` is not in the years 1 to 9999: check the clock",
                    commit.time, self.stream
                )));
            }
        }
        if let NewCommits::Several(commits) = &self.commits {
            self.check_group(commits)?;
        }
        self.check_names()?;
        self.check_metadata()?;
        let last = version.plus(self.events());
        if last > Version::MAX {
            return Err(StoreError::invalid(format!(
                "the stream `{}` would exceed version {}, the maximum version of a stream",
                self.stream,
                Version::MAX
            )));
        }
        Ok(last)
    }

    /// Checks that the events can be stored as they are: for stores, which must call it before a write.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if an event contains [personal data](crate::personal) that is not sealed.
    pub fn check_sealed(&self) -> Result<(), StoreError> {
        let mut events = self.commits().iter().flat_map(|commit| &commit.events);
        match events.any(|event| is_in_transit(event.payload())) {
            true => Err(StoreError::without_keyring()),
            false => Ok(()),
        }
    }

    /// Returns the response to an append whose first commit is stored already, at the version `first`: for stores.
    /// `stored` has the id and the last version of each commit that was stored with it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if these are other commits than those of this append.
    pub fn repeated(
        &self,
        first: Version,
        stored: impl IntoIterator<Item = (CommitId, Version)>,
        cost: Cost,
    ) -> Result<Appended, StoreError> {
        let mut last = first.previous();
        let appended = self.commits().iter().map(|commit| {
            last = last.plus(commit.events.len() as u64);
            (commit.id, last)
        });
        if !appended.eq(stored) {
            let reason =
                format!("the commit {} is stored with other events than it was appended with", self.id());
            return Err(StoreError::corrupt(&self.stream, reason));
        }
        Ok(Appended::new(first, last, cost).repeated())
    }

    /// Checks that events have a name and a schema version, that a lifecycle event is alone in its append, and that no
    /// other event has a reserved name.
    fn check_names(&self) -> Result<(), StoreError> {
        let mut events = self.commits().iter().flat_map(|commit| &commit.events);
        if let Some(event) = events.find(|event| event.name().is_empty() || event.version() == 0) {
            return Err(StoreError::invalid(format!(
                "the event `{}` with the schema version {} cannot be appended to the stream `{}`: an event has a name, and a \
                 schema version of at least 1",
                event.name(),
                event.version(),
                self.stream
            )));
        }
        let mut events = self.commits().iter().flat_map(|commit| &commit.events);
        match events.find(|event| is_reserved(event.name())) {
            Some(event) if self.events() > 1 || StreamState::after(event).is_none() => {
                Err(StoreError::invalid(format!(
                    "the event `{}` cannot be appended: names that start with `$` are reserved for the framework",
                    event.name()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the metadata can be read back: parsers of JSON limit the nesting.
    fn check_metadata(&self) -> Result<(), StoreError> {
        match self.commits().iter().any(|commit| commit.metadata.is_too_deep()) {
            true => Err(StoreError::invalid(format!(
                "the metadata of a commit to the stream `{}` has more than {} levels of arrays and objects in each other: use \
                 fewer",
                self.stream,
                Metadata::MAX_DEPTH
            ))),
            false => Ok(()),
        }
    }

    /// Checks the limits and the order of several commits.
    fn check_group(&self, commits: &[NewCommit]) -> Result<(), StoreError> {
        let count = commits.len();
        if count > MAX_GROUP_COMMITS {
            return Err(StoreError::invalid(format!(
                "an append of {count} commits to the stream `{}` is too large, the limit is {MAX_GROUP_COMMITS}: use several \
                 appends",
                self.stream
            )));
        }
        if !commits.is_sorted_by_key(|commit| commit.time) {
            return Err(StoreError::invalid(format!(
                "the times of the commits in an append to the stream `{}` decrease: give each commit at least the time of \
                 the commit before it",
                self.stream
            )));
        }
        let ids: HashSet<_> = commits.iter().map(|commit| commit.id).collect();
        if ids.len() < count {
            return Err(StoreError::invalid(format!(
                "two commits in an append to the stream `{}` have the same id: give each commit a new id",
                self.stream
            )));
        }
        let bytes = commits.iter().map(NewCommit::bytes).sum();
        if bytes > MAX_GROUP_BYTES {
            let what = format!("an append of {count} commits to the stream `{}`", self.stream);
            return Err(StoreError::too_large(what, bytes, MAX_GROUP_BYTES));
        }
        Ok(())
    }
}

/// The response to an append: its commits are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Appended {
    /// The version of the first event.
    pub first: Version,
    /// The version of the last event, which is that of the stream after the append.
    pub last: Version,
    /// Whether the commits had been stored by an earlier attempt whose response was lost.
    pub repeated: bool,
    /// The cost of the append.
    pub cost: Cost,
}

impl Appended {
    /// Returns the response for commits with the versions `first` to `last`.
    #[must_use]
    pub const fn new(first: Version, last: Version, cost: Cost) -> Self {
        Self { first, last, repeated: false, cost }
    }

    /// Marks the commits as stored by an earlier attempt.
    #[must_use]
    pub const fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }
}
