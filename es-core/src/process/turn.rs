//! Whose turn it is: the reactions of one instance come one after the other.

use std::any::type_name;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::reached::Reached;
use crate::documents::{
    ChangeError, ChangeSet, DocumentCondition, DocumentKey, Documents, ExpectedDocument, Revision,
};
use crate::event::without_values;
use crate::ids::IdSource;
use crate::projection::{BoxError, EventContext, Origin};
use crate::store::{AdditionalWrite, StoreError};

/// The turn of one reaction, from its first command on until its events are recorded.
///
/// Its commands are decided on the state of the instance, and on the answers to those before. The state stays as
/// it is, since no other reaction of the instance may record anything meanwhile, and the answers are kept: so the
/// reaction takes the same way when it has to run again. Everything that it writes depends on its turn being what it was, so that a worker
/// that was replaced, and does not know it yet, does nothing any more.
pub(super) struct Turn {
    store: Arc<dyn Documents>,
    ids: Arc<dyn IdSource>,
    key: DocumentKey,
    held: Option<Revision>,
    content: Content,
    /// That the slice is still its worker's: only then may a turn begin.
    lease: Option<DocumentCondition>,
    /// Where to note that a turn for this event has begun.
    reached: Option<(DocumentKey, Reached)>,
}

/// Whether a turn could begin.
pub(super) enum Begun {
    /// It has.
    Yes,
    /// It is another reaction's by now, or another worker's.
    No,
    /// The slice is another worker's.
    Lost,
}

#[derive(Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Content {
    /// The key of the reaction.
    reaction: String,
    /// Where its event came from.
    origin: Origin,
    /// The rejections that it got, by the number of the command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rejections: BTreeMap<u32, serde_json::Value>,
}

impl Turn {
    /// Whose turn it is: if it has not begun, that of `reaction`.
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
        let content = Content { reaction, origin, rejections: BTreeMap::new() };
        Ok(Self { store, ids, key, held: None, content, lease, reached: None })
    }

    /// The turn that has begun, if there is one.
    pub(super) async fn held(
        store: Arc<dyn Documents>,
        ids: Arc<dyn IdSource>,
        key: DocumentKey,
    ) -> Result<Option<Self>, BoxError> {
        let Some(document) = store.document(&key).await? else { return Ok(None) };
        let content = serde_json::from_str::<Content>(&document.body).map_err(|error| {
            StoreError::corrupt_item(format!("the document `{key}`"), without_values(&error))
        })?;
        let held = Some(document.revision);
        Ok(Some(Self { store, ids, key, held, content, lease: None, reached: None }))
    }

    /// When the turn begins, also records in the document `key` how far the slice is.
    pub(super) fn reaching(mut self, key: DocumentKey, reached: Reached) -> Self {
        self.reached = Some((key, reached));
        self
    }

    /// The key of the reaction.
    pub(super) fn reaction(&self) -> &str {
        &self.content.reaction
    }

    /// Where its event came from.
    pub(super) fn origin(&self) -> &Origin {
        &self.content.origin
    }

    /// Whether it has begun.
    pub(super) fn is_begun(&self) -> bool {
        self.held.is_some()
    }

    /// That it is still this turn, or still nobody's: what everything that the reaction writes depends on.
    pub(super) fn condition(&self) -> DocumentCondition {
        DocumentCondition { key: self.key.clone(), expected: self.held.into() }
    }

    /// Begins the turn, or goes on with one that has begun before: whoever had it can write nothing any more.
    pub(super) async fn take(&mut self) -> Result<Begun, BoxError> {
        match self.write(self.lease.clone()).await {
            Ok(()) => Ok(Begun::Yes),
            Err(ChangeError::Outdated { .. }) => Ok(Begun::No),
            Err(ChangeError::Refused) => Ok(Begun::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// The rejection of the command `number`, if it was rejected before.
    pub(super) fn rejection<E: DeserializeOwned>(&self, number: u32) -> Result<Option<E>, BoxError> {
        let Some(rejection) = self.content.rejections.get(&number) else { return Ok(None) };
        let rejection = serde_json::from_value(rejection.clone());
        Ok(Some(rejection.map_err(|error| {
            format!("a rejection that was remembered cannot be read any more: {}", without_values(&error))
        })?))
    }

    /// Remembers the rejection of the command `number`; returns it as it will be read back.
    pub(super) async fn reject<E: Serialize + DeserializeOwned>(
        &mut self,
        number: u32,
        rejection: &E,
    ) -> Result<E, BoxError> {
        let unreadable = |error: serde_json::Error| {
            format!(
                "the rejection `{}` cannot be remembered, as it could not be read back ({}): give it values that \
                 survive being stored as JSON, which a NaN does not, or issue the command with `execute`",
                type_name::<E>(),
                without_values(&error)
            )
        };
        let stored = serde_json::to_value(rejection).map_err(unreadable)?;
        let read_back = E::deserialize(&stored).map_err(unreadable)?;
        self.content.rejections.insert(number, stored);
        self.write(None).await?;
        Ok(read_back)
    }

    /// Ends the turn, if it has begun, and is still this one.
    pub(super) async fn end(self) -> Result<(), BoxError> {
        let Some(held) = self.held else { return Ok(()) };
        let set = ChangeSet::new(self.ids.new_id()).delete(self.key, ExpectedDocument::At(held));
        match self.store.change(&set).await {
            // Somebody else has ended it, or goes on with it.
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
                // The very same set again tells whether it was written.
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
