//! Turns: the lock that serializes the reactions of one instance.

use std::any::type_name;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::documents::{
    ChangeError, ChangeSet, DocumentCondition, DocumentKey, Documents, ExpectedDocument, Revision,
};
use crate::event::without_values;
use crate::feed::{Feed, FeedAnchor, Position, Slice, mismatch};
use crate::ids::IdSource;
use crate::personal::encoding;
use crate::projection::{BoxError, EventContext, Origin};
use crate::store::{AdditionalWrite, StoreError};
use crate::stream_id::StreamId;

/// The turn of a reaction: held from its first command until its events are recorded.
///
/// While a reaction holds the turn, no other reaction of the instance can record events, so the state stays the
/// same. Rejections are stored in the turn. A repeated reaction therefore takes the same path. All writes of the
/// reaction require that the turn is unchanged, so a replaced worker that is still running has no effect
/// (fencing).
pub(super) struct Turn {
    store: Arc<dyn Documents>,
    ids: Arc<dyn IdSource>,
    key: DocumentKey,
    held: Option<Revision>,
    content: StoredTurn,
    /// The lease of the slice, which is required to begin the turn.
    lease: Option<DocumentCondition>,
    /// The document that records the turn's event, and its new content.
    reached: Option<(DocumentKey, Reached)>,
}

/// The result of taking a turn.
pub(super) enum Begun {
    /// The turn is taken.
    Yes,
    /// Another reaction or worker holds it.
    No,
    /// Another worker holds the lease of the slice.
    Lost,
}

#[derive(Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct StoredTurn {
    /// The key of the reaction.
    reaction: String,
    /// The origin of the event.
    origin: Origin,
    /// The stored rejections by command number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rejections: BTreeMap<u32, serde_json::Value>,
}

impl StoredTurn {
    /// Returns the turn as a worker will decode it.
    fn read_back(&self) -> serde_json::Result<Self> {
        serde_json::from_str(&serde_json::to_string(self)?)
    }
}

impl Turn {
    /// Reads the turn of the instance. If none has begun, returns a new turn for `reaction`.
    pub(super) async fn look(
        store: Arc<dyn Documents>,
        ids: Arc<dyn IdSource>,
        key: DocumentKey,
        reaction: &str,
        ctx: &EventContext,
    ) -> Result<Self, BoxError> {
        let lease = ctx.lease().cloned();
        if let Some(held) = Self::held(Arc::clone(&store), Arc::clone(&ids), key.clone()).await? {
            return Ok(Self { lease, ..held });
        }
        let (reaction, origin) = (reaction.to_owned(), Origin::of(ctx));
        let content = StoredTurn { reaction, origin, rejections: BTreeMap::new() };
        Ok(Self { store, ids, key, held: None, content, lease, reached: None })
    }

    /// Creates the turn that has begun, if there is one.
    pub(super) async fn held(
        store: Arc<dyn Documents>,
        ids: Arc<dyn IdSource>,
        key: DocumentKey,
    ) -> Result<Option<Self>, BoxError> {
        let Some(document) = store.document(&key).await? else { return Ok(None) };
        let content = serde_json::from_str::<StoredTurn>(&document.body).map_err(|error| {
            StoreError::corrupt_item(format!("the document `{key}`"), without_values(&error))
        })?;
        let held = Some(document.revision);
        Ok(Some(Self { store, ids, key, held, content, lease: None, reached: None }))
    }

    /// Records `reached` in the document `key` when the turn begins.
    pub(super) fn reaching(mut self, key: DocumentKey, reached: Reached) -> Self {
        self.reached = Some((key, reached));
        self
    }

    /// Returns the key of the reaction that holds the turn.
    pub(super) fn reaction(&self) -> &str {
        &self.content.reaction
    }

    /// The origin of the event.
    pub(super) fn origin(&self) -> &Origin {
        &self.content.origin
    }

    /// Returns whether the turn has begun.
    pub(super) fn is_begun(&self) -> bool {
        self.held.is_some()
    }

    /// Returns the condition that the turn is unchanged, which fences all writes of the reaction.
    pub(super) fn condition(&self) -> DocumentCondition {
        DocumentCondition::new(self.key.clone(), self.held.into())
    }

    /// Begins the turn, or takes over one that had begun. The previous holder can no longer write.
    pub(super) async fn take(&mut self) -> Result<Begun, BoxError> {
        match self.write(self.lease.clone()).await {
            Ok(()) => Ok(Begun::Yes),
            Err(ChangeError::Outdated { .. }) => Ok(Begun::No),
            Err(ChangeError::Refused) => Ok(Begun::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the stored rejection of the command `number`.
    pub(super) fn rejection<E: DeserializeOwned>(&self, number: u32) -> Result<Option<E>, BoxError> {
        let Some(rejection) = self.content.rejections.get(&number) else { return Ok(None) };
        let rejection = serde_json::from_value(rejection.clone());
        Ok(Some(
            rejection.map_err(|error| {
                format!("a stored rejection cannot be decoded: {}", without_values(&error))
            })?,
        ))
    }

    /// Stores the rejection of the command `number`. Returns its decoded form.
    pub(super) async fn reject<E: Serialize + DeserializeOwned>(
        &mut self,
        number: u32,
        rejection: &E,
    ) -> Result<E, BoxError> {
        let unreadable = |error: serde_json::Error| {
            format!(
                "the rejection `{}` cannot be stored, because it could not be decoded again ({}): use values that \
                 JSON can represent, unlike a NaN, or issue the command with `execute`",
                type_name::<E>(),
                without_values(&error)
            )
        };
        let stored = encoding(|| serde_json::to_value(rejection)).map_err(unreadable)?;
        let read_back = E::deserialize(&stored).map_err(unreadable)?;
        self.content.rejections.insert(number, stored);
        // Parsers of JSON limit the nesting, so that the whole turn could not be read.
        if let Err(error) = self.content.read_back() {
            self.content.rejections.remove(&number);
            return Err(unreadable(error).into());
        }
        self.write(None).await?;
        Ok(read_back)
    }

    /// Ends the turn if it has begun and is unchanged.
    pub(super) async fn end(self) -> Result<(), BoxError> {
        let Some(held) = self.held else { return Ok(()) };
        let set = ChangeSet::new(self.ids.new_id()).delete(self.key, ExpectedDocument::At(held));
        match self.store.change(&set).await {
            // It was ended or taken over by another worker.
            Ok(()) | Err(ChangeError::Outdated { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&mut self, lease: Option<DocumentCondition>) -> Result<(), ChangeError> {
        let body = encode(&self.content)?;
        let mut set = ChangeSet::new(self.ids.new_id()).put(self.key.clone(), self.held.into(), body);
        if let Some(lease) = lease {
            set = set.with_additional([AdditionalWrite::new(lease)]);
            if let Some((key, reached)) = &self.reached {
                set = set.put(key.clone(), ExpectedDocument::Any, encode(reached)?);
            }
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.store.change(&set).await {
                // Repeating the same set reveals whether it was written.
                Err(ChangeError::Store(error)) if error.is_retryable() && attempts < 3 => {}
                changed => {
                    changed?;
                    self.held = Some(set.revision());
                    return Ok(());
                }
            }
        }
    }
}

fn encode(content: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(content).map_err(|error| StoreError::invalid(without_values(&error)))
}

/// Returns the key of the document with the turn of the instance with the stream `instance`.
pub(super) fn turn_key(process: &str, instance: &StreamId) -> DocumentKey {
    DocumentKey::new(format!("process#{process}#turn#{}", instance.id()), "")
}

/// The last event of a slice for which a turn has begun. A slice is handled in order, so all earlier events are
/// finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
pub(super) struct Reached {
    position: Position,
    /// The anchor of the position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<FeedAnchor>,
}

/// Returns the key of the document with the last event of a slice for which a turn has begun.
pub(crate) fn reached_key(process: &str, slice: Slice) -> DocumentKey {
    DocumentKey::new(format!("process#{process}#reached#{slice}"), "")
}

impl Reached {
    /// Creates the record of an event for which a turn begins.
    pub(super) fn of(ctx: &EventContext) -> Self {
        Self { position: ctx.position(), anchor: ctx.anchor() }
    }

    /// Returns whether a turn has begun for a later event of the slice.
    pub(super) fn is_after(&self, ctx: &EventContext) -> bool {
        self.position > ctx.position()
    }

    /// Reads the record for the slice of the event. Returns the start of the slice if the feed was replaced:
    /// its events may differ, so the process reacts to all of them.
    pub(super) async fn read(
        store: &dyn Feed,
        process: &str,
        ctx: &EventContext,
    ) -> Result<Self, StoreError> {
        let (slice, key) = (ctx.slice(), reached_key(process, ctx.slice()));
        let Some(document) = store.document(&key).await? else { return Ok(Self::default()) };
        let reached: Self = serde_json::from_str(&document.body).map_err(|error| {
            StoreError::corrupt_item(format!("the document `{key}`"), without_values(&error))
        })?;
        // Usually, the checkpoint is not behind the record, and no verification is needed.
        if !reached.is_after(ctx) {
            return Ok(reached);
        }
        let Self { position, anchor } = reached;
        let Some(error) = mismatch(store, slice, position, anchor).await? else { return Ok(reached) };
        tracing::warn!(
            process,
            slice = slice.get(),
            position = position.get(),
            %error,
            "the feed was replaced since the process read it; reacting to all events after the checkpoint"
        );
        Ok(Self::default())
    }
}
