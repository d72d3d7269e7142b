//! A store that seals personal data when it writes, and opens it when it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::forms::{Found, Replacement, RewriteError, SEALED, Sealed, Transit, rewrite};
use super::{KeyState, Keyring, Subject, is_in_transit};
use crate::cost::Cost;
use crate::documents::{
    ChangeError, ChangeSet, Document, DocumentKey, DocumentPage, DocumentQuery, Documents,
};
use crate::event::EventData;
use crate::feed::{Feed, FeedEnd, FeedPage, FeedRead, Slice, SliceTree, Slices};
use crate::snapshot::Snapshot;
use crate::store::{
    Append, AppendError, Appended, Claim, ClaimChange, Commit, EventStore, Head, Holder, IdempotencyKey,
    IdempotencyLookup, NewCommit, Page, Read, StoreError, StoreIdentity, WriteError, WriteSet, Written,
};
use crate::stream_id::StreamId;
use crate::version::Version;

/// A store with a keyring: it seals [`Personal`](super::Personal) data when it writes, and opens it when it reads.
///
/// Use it in place of the store for repositories, transactions, projectors, and read models. Tools that only copy or
/// index stored data, such as an indexer, use the store itself, and need no keys.
///
/// A page of events or documents takes one request to the keyring for all of its subjects, and a commit takes one. Data
/// without personal values takes none.
///
/// ```
/// use es_core::MemoryStore;
/// use es_core::personal::{MemoryKeyring, SealedStore};
///
/// let store = SealedStore::new(MemoryStore::new(), MemoryKeyring::new());
/// # let _ = store;
/// ```
///
/// # Errors
///
/// After a subject was forgotten, events with new personal data about it are refused with [`StoreError::Invalid`]. In
/// snapshots, rows, and timeouts, which are derived from events, its values are written as forgotten.
/// [`StoreError::Corrupt`] if a sealed value was changed or copied from another place, and [`StoreError::Setup`] if the
/// keyring never had its key. Errors of the keyring are returned as those of the store, and retried in the same way.
#[derive(Clone, Debug)]
pub struct SealedStore<S> {
    store: S,
    keyring: Arc<dyn Keyring>,
}

/// The place of a sealed value, to which it is bound. A value that is copied to another place cannot be opened there.
///
/// The place does not depend on the code: upcasting and renaming happen after a value is opened.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// An event by its stream and its stored name.
    Event(&'a StreamId, &'a str),
    Snapshot(&'a StreamId),
    Document(&'a DocumentKey),
}

impl Place<'_> {
    /// Returns the authenticated context of the value of `subject` at `path`.
    fn context(self, subject: &Subject, path: &str) -> Vec<u8> {
        let (kind, container, name) = match self {
            Self::Event(stream, name) => ("event", stream.as_str(), name),
            Self::Snapshot(stream) => ("snapshot", stream.as_str(), ""),
            Self::Document(key) => ("document", key.collection(), key.name()),
        };
        let parts = ["es personal data 1", kind, container, name, path, subject.as_str()];
        // As JSON, so that the parts cannot run into each other.
        serde_json::to_vec(&parts).expect("texts have a JSON form")
    }

    fn corrupt(self, reason: String) -> StoreError {
        match self {
            Self::Event(stream, name) => {
                StoreError::corrupt_item(format!("an event `{name}` of the stream `{stream}`"), reason)
            }
            Self::Snapshot(stream) => StoreError::corrupt_item(format!("the snapshot of `{stream}`"), reason),
            Self::Document(key) => StoreError::corrupt_item(format!("the document `{key}`"), reason),
        }
    }
}

/// The treatment of new values whose subject was forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OfForgotten {
    /// Events record facts: the write is refused.
    Refuse,
    /// Derived data is written without the value.
    Omit,
}

/// The keys of the subjects in a request.
type Keys = BTreeMap<Subject, KeyState>;

/// Returns the subjects in `texts` whose keys are needed.
fn subjects<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<Subject> {
    let mut subjects = BTreeSet::new();
    texts.for_each(|json| collect(json, &mut subjects));
    subjects.into_iter().collect()
}

/// Adds the subjects in a text whose keys are needed.
fn collect(json: &str, subjects: &mut BTreeSet<Subject>) {
    let mut note = |found: Found<'_>, _: &str| {
        match found {
            Found::Transit(Transit { subject, value: Some(_) }) => subjects.insert(subject),
            Found::Sealed(Sealed { subject, value: Some(_) }) => {
                subjects.insert(Subject::from_stored(&*subject))
            }
            _ => false,
        };
        Ok::<_, ()>(Replacement::Unchanged)
    };
    // Malformed JSON is reported when it is converted.
    let _ = rewrite(json, &mut note);
}

fn state<'k>(keys: &'k Keys, subject: &Subject) -> &'k KeyState {
    keys.get(subject).unwrap_or(&KeyState::Missing)
}

/// Returns `json` with its values sealed.
fn sealed(
    json: &str,
    place: Place<'_>,
    keys: &Keys,
    of_forgotten: OfForgotten,
) -> Result<String, StoreError> {
    let mut seal = |found: Found<'_>, path: &str| {
        let Transit { subject, value } = match found {
            Found::Transit(transit) => transit,
            Found::Sealed(_) => {
                return Err(StoreError::invalid(format!(
                    "a field with the name `{SEALED}` is reserved for personal data: rename it"
                )));
            }
        };
        let value = match (value, state(keys, &subject)) {
            (None, _) => None,
            (Some(value), KeyState::Known(key)) => Some(key.seal(&value, &place.context(&subject, path))?),
            (Some(_), KeyState::Forgotten) if of_forgotten == OfForgotten::Omit => None,
            (Some(_), KeyState::Forgotten) => {
                return Err(StoreError::invalid(format!(
                    "the subject `{subject}` was forgotten, so no personal data about it can be recorded: reject the \
                     command, or record an event without personal data"
                )));
            }
            (Some(_), KeyState::Missing) => {
                let reason = format!("the keyring did not create a key for the subject `{subject}`");
                return Err(StoreError::setup(reason, None));
            }
        };
        let sealed = Sealed { subject: subject.as_str().into(), value: value.map(Into::into) };
        Ok(Replacement::Json(sealed.form()))
    };
    rewrite(json, &mut seal).map_err(|error| match error {
        RewriteError::Failed(error) => error,
        RewriteError::Malformed => StoreError::invalid("personal data is part of a text that is not JSON"),
    })
}

/// Returns `json` with its sealed values in transit.
fn opened(json: &str, place: Place<'_>, keys: &Keys) -> Result<String, StoreError> {
    let mut open = |found: Found<'_>, path: &str| {
        let Found::Sealed(Sealed { subject, value }) = found else { return Ok(Replacement::Unchanged) };
        let subject = Subject::from_stored(&*subject);
        let value = match (value, state(keys, &subject)) {
            (None, _) | (_, KeyState::Forgotten) => None,
            (Some(value), KeyState::Known(key)) => {
                let opened = key.open(&value, &place.context(&subject, path));
                Some(opened.ok_or_else(|| {
                    place.corrupt(format!(
                        "the personal data of the subject `{subject}` in `{path}` was changed, copied from another place, or \
                         sealed under another key"
                    ))
                })?)
            }
            (Some(_), KeyState::Missing) => {
                let reason = format!(
                    "the keyring has no key of the subject `{subject}`, whose personal data is stored: use the keyring with \
                     which the data was written, or restore its keys"
                );
                return Err(StoreError::setup(reason, None));
            }
        };
        let transit = Transit { subject, value }.form().map_err(|reason| StoreError::setup(reason, None))?;
        super::IN_USE.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(Replacement::Json(transit))
    };
    rewrite(json, &mut open).map_err(|error| match error {
        RewriteError::Failed(error) => error,
        RewriteError::Malformed => place.corrupt("it is not JSON".to_owned()),
    })
}

/// Returns whether a text has values to open.
fn is_sealed(json: &str) -> bool {
    json.contains(SEALED)
}

/// Returns whether a text must be converted before it is written: it has values to seal, or a reserved name.
fn is_to_seal(json: &str) -> bool {
    is_in_transit(json) || is_sealed(json)
}

impl<S> SealedStore<S> {
    /// Creates a store that writes to and reads from `store`, with the keys of `keyring`.
    #[must_use]
    pub fn new(store: S, keyring: impl Keyring) -> Self {
        Self { store, keyring: Arc::new(keyring) }
    }

    /// Returns the store itself, in which personal data is sealed.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Returns the keys to open the values in `texts`.
    async fn keys_to_open<'t>(&self, texts: impl Iterator<Item = &'t str>) -> Result<Keys, StoreError> {
        let subjects = subjects(texts.filter(|json| is_sealed(json)));
        if subjects.is_empty() {
            return Ok(Keys::new());
        }
        let keys = self.keyring.keys(&subjects).await.map_err(StoreError::of_read)?;
        Ok(subjects.into_iter().zip(keys).collect())
    }

    /// Returns the keys to seal the values in `texts`, and creates missing ones.
    async fn keys_to_seal<'t>(&self, texts: impl Iterator<Item = &'t str>) -> Result<Keys, StoreError> {
        let subjects = subjects(texts.filter(|json| is_to_seal(json)));
        if subjects.is_empty() {
            return Ok(Keys::new());
        }
        // The error of a read, because nothing has been written to the store yet.
        let keys = self.keyring.keys_or_create(&subjects).await.map_err(StoreError::of_read)?;
        Ok(subjects.into_iter().zip(keys).collect())
    }

    /// Opens the values in commits.
    async fn open_commits(&self, commits: &mut [(&StreamId, &mut Commit)]) -> Result<(), StoreError> {
        let payloads = commits.iter().flat_map(|(_, commit)| &commit.events).map(EventData::payload);
        let keys = self.keys_to_open(payloads).await?;
        for (stream, commit) in commits {
            for event in commit.events.iter_mut().filter(|event| is_sealed(event.payload())) {
                let payload = opened(event.payload(), Place::Event(stream, event.name()), &keys)?;
                *event = event.with_payload(payload);
            }
        }
        Ok(())
    }

    /// Opens the values of the commits in a conflict. If that fails, the commits are removed, so that the repository
    /// reads them.
    async fn open_conflict(&self, stream: &StreamId, commits: &mut Vec<Commit>) {
        let mut all: Vec<_> = commits.iter_mut().map(|commit| (stream, commit)).collect();
        if self.open_commits(&mut all).await.is_err() {
            commits.clear();
        }
    }

    async fn open_page(&self, stream: &StreamId, mut page: Page) -> Result<Page, StoreError> {
        let mut commits: Vec<_> = page.commits.iter_mut().map(|commit| (stream, commit)).collect();
        self.open_commits(&mut commits).await?;
        if let Some(snapshot) = page.snapshot.as_mut().filter(|snapshot| is_sealed(snapshot.state())) {
            let keys = self.keys_to_open(std::iter::once(snapshot.state())).await?;
            // A snapshot that cannot be opened cannot be decoded either. The load starts from the first event instead.
            if let Ok(state) = opened(snapshot.state(), Place::Snapshot(stream), &keys) {
                *snapshot = Snapshot::new(snapshot.version(), snapshot.time(), snapshot.fingerprint(), state);
            }
        }
        Ok(page)
    }

    /// Returns the append with its values sealed. All attempts of an append write the same text, even if the subject is
    /// forgotten in between.
    async fn sealed_append<'a>(&self, append: &'a Append) -> Result<&'a Append, StoreError> {
        if let Some(sealed) = append.sealed() {
            return Ok(sealed);
        }
        let payloads = || append.commits().iter().flat_map(|commit| &commit.events).map(EventData::payload);
        if !payloads().any(is_to_seal) {
            return Ok(append);
        }
        let keys = self.keys_to_seal(payloads()).await?;
        let commits = append.commits().iter().map(|commit| -> Result<NewCommit, StoreError> {
            let mut commit = commit.clone();
            for event in commit.events.iter_mut().filter(|event| is_to_seal(event.payload())) {
                let place = Place::Event(append.stream(), event.name());
                let payload = sealed(event.payload(), place, &keys, OfForgotten::Refuse)?;
                *event = event.with_payload(payload);
            }
            Ok(commit)
        });
        let commits = commits.collect::<Result<Vec<_>, _>>()?;
        Ok(append.keep_sealed(commits))
    }

    async fn sealed_set(&self, set: &WriteSet) -> Result<WriteSet, StoreError> {
        let mut appends = Vec::with_capacity(set.appends().len());
        for append in set.appends() {
            appends.push(self.sealed_append(append).await?.clone());
        }
        let mut claims = Vec::with_capacity(set.claim_changes().len());
        for change in set.claim_changes() {
            let (stream, claim) = (change.stream().clone(), self.sealed_claim(change.claim()).await?);
            claims.push(match change {
                ClaimChange::Take { .. } => ClaimChange::Take { stream, claim },
                ClaimChange::Release { .. } => ClaimChange::Release { stream, claim },
            });
        }
        Ok(set.with_content(appends, claims))
    }

    /// Returns the error of a set that cannot be sealed. A set that was written before, under its idempotency key,
    /// keeps its outcome if a subject was forgotten since then.
    async fn not_sealed(&self, set: &WriteSet, error: StoreError) -> WriteError
    where
        S: EventStore,
    {
        let Some(once) = set.idempotency().filter(|_| !error.is_transient()) else { return error.into() };
        match self.store.idempotency_record(&once.key).await.map(|found| found.record) {
            Ok(Some(record)) if record.is_valid_at(once.now) => WriteError::AlreadyDone(record),
            Ok(_) => error.into(),
            Err(failure) => failure.of_read().into(),
        }
    }

    /// Returns the claim on the keyed digest of a personal value.
    async fn sealed_claim(&self, claim: &Claim) -> Result<Claim, StoreError> {
        if !claim.is_personal() {
            return Ok(claim.clone());
        }
        let keys = self.keyring.keys_or_create(&[Subject::of_claims()]).await.map_err(StoreError::of_read)?;
        match keys.first() {
            Some(KeyState::Known(key)) => Claim::new(claim.name(), key.digest(claim.name(), claim.value())),
            _ => Err(StoreError::setup("the keyring has no key for claims on personal data", None)),
        }
    }

    async fn sealed_changes<'a>(&self, set: &'a ChangeSet) -> Result<&'a ChangeSet, StoreError> {
        if let Some(sealed) = set.sealed() {
            return Ok(sealed);
        }
        let bodies = || set.changes().iter().filter_map(|change| change.body.as_deref());
        if !bodies().any(is_to_seal) {
            return Ok(set);
        }
        let keys = self.keys_to_seal(bodies()).await?;
        let mut changes = set.changes().to_vec();
        for change in &mut changes {
            if let Some(body) = change.body.as_mut().filter(|body| is_to_seal(body)) {
                *body = sealed(body, Place::Document(&change.key), &keys, OfForgotten::Omit)?;
            }
        }
        Ok(set.keep_sealed(changes))
    }

    async fn open_documents(&self, documents: &mut [(DocumentKey, &mut Document)]) -> Result<(), StoreError> {
        let keys = self.keys_to_open(documents.iter().map(|(_, document)| document.body.as_str())).await?;
        for (key, document) in documents.iter_mut().filter(|(_, document)| is_sealed(&document.body)) {
            document.body = opened(&document.body, Place::Document(key), &keys)?;
        }
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: EventStore> EventStore for SealedStore<S> {
    async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        let sealed = self.sealed_append(append).await?;
        match self.store.append(sealed).await {
            Err(AppendError::Conflict(mut conflict)) => {
                self.open_conflict(append.stream(), &mut conflict.commits).await;
                Err(AppendError::Conflict(conflict))
            }
            result => result,
        }
    }

    async fn write(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let sealed = match self.sealed_set(set).await {
            Ok(sealed) => sealed,
            Err(error) => return Err(self.not_sealed(set, error).await),
        };
        match self.store.write(&sealed).await {
            Err(WriteError::Conflict(mut conflict)) => {
                let stream = conflict.stream.clone();
                self.open_conflict(&stream, &mut conflict.commits).await;
                Err(WriteError::Conflict(conflict))
            }
            result => result,
        }
    }

    async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        self.store.claim_holder(&self.sealed_claim(claim).await?).await
    }

    async fn idempotency_record(&self, key: &IdempotencyKey) -> Result<IdempotencyLookup, StoreError> {
        self.store.idempotency_record(key).await
    }

    fn identity(&self) -> StoreIdentity {
        self.store.identity()
    }

    fn read(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        if read.is_as_stored() {
            return self.store.read(read);
        }
        let stream = read.stream().clone();
        let pages = self.store.read(read);
        stream::try_unfold((pages, stream), async move |(mut pages, stream)| {
            let Some(page) = pages.try_next().await? else { return Ok(None) };
            let page = self.open_page(&stream, page).await?;
            Ok(Some((page, (pages, stream))))
        })
        .boxed()
    }

    async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        self.store.head(stream).await
    }

    async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        self.store.erase(stream).await
    }

    async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        self.store.restore(commits, end).await
    }

    async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        if !is_to_seal(snapshot.state()) {
            return self.store.write_snapshot(stream, snapshot, replaces).await;
        }
        let keys = self.keys_to_seal(std::iter::once(snapshot.state())).await?;
        let state = sealed(snapshot.state(), Place::Snapshot(stream), &keys, OfForgotten::Omit)?;
        let sealed = Snapshot::new(snapshot.version(), snapshot.time(), snapshot.fingerprint(), state);
        self.store.write_snapshot(stream, &sealed, replaces).await
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.store.spawn(task);
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Documents> Documents for SealedStore<S> {
    async fn document(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let mut document = self.store.document(key).await?;
        if let Some(document) = &mut document {
            self.open_documents(&mut [(key.clone(), document)]).await?;
        }
        Ok(document)
    }

    async fn documents(&self, query: &DocumentQuery) -> Result<DocumentPage, StoreError> {
        let mut page = self.store.documents(query).await?;
        let documents = page.documents.iter_mut();
        let mut documents: Vec<_> = documents
            .filter(|(_, document)| is_sealed(&document.body))
            .map(|(name, document)| (DocumentKey::new(&query.collection, &*name), document))
            .collect();
        self.open_documents(&mut documents).await?;
        Ok(page)
    }

    async fn change(&self, set: &ChangeSet) -> Result<(), ChangeError> {
        self.store.change(self.sealed_changes(set).await?).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Feed> Feed for SealedStore<S> {
    async fn slices(&self) -> Result<Slices, StoreError> {
        self.store.slices().await
    }

    async fn slice_tree(&self) -> Result<SliceTree, StoreError> {
        self.store.slice_tree().await
    }

    async fn split(&self, slice: Slice) -> Result<[Slice; 2], StoreError> {
        self.store.split(slice).await
    }

    async fn read_feed(&self, read: &FeedRead) -> Result<FeedPage, StoreError> {
        let mut page = self.store.read_feed(read).await?;
        let mut commits: Vec<_> =
            page.entries.iter_mut().map(|entry| (&entry.stream, &mut entry.commit)).collect();
        self.open_commits(&mut commits).await?;
        Ok(page)
    }

    async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        self.store.feed_end(slice).await
    }

    async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.store.indexed(stream).await
    }

    fn growth(&self) -> BoxFuture<'static, ()> {
        self.store.growth()
    }
}
