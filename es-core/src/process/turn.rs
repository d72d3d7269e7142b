//! Whose turn it is: the reactions of one instance come one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument, Revision};
use crate::event::without_values;
use crate::ids::IdSource;
use crate::projection::BoxError;
use crate::version::Version;

/// The turn of one reaction, from its first command on until its events are recorded.
///
/// Its commands were decided on one version of the instance, and on the answers to those before. Both are
/// kept, so that the reaction takes the same way when it has to run again; and no other reaction of the
/// instance may run meanwhile.
pub(super) struct Turn {
    store: Arc<dyn Documents>,
    ids: Arc<dyn IdSource>,
    key: DocumentKey,
    held: Option<Revision>,
    content: Content,
}

#[derive(Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Content {
    /// The key of the reaction.
    reaction: String,
    /// The version of the instance that it reacts on.
    basis: Version,
    /// The rejections that it got, by the number of the command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rejections: BTreeMap<u32, serde_json::Value>,
}

/// How an instance was found.
pub(super) enum Found {
    /// It is nobody else's turn.
    Turn(Turn),
    /// It is the turn of the reaction with this key.
    Taken(String),
}

impl Turn {
    /// Looks whose turn it is.
    pub(super) async fn look(
        store: Arc<dyn Documents>,
        ids: Arc<dyn IdSource>,
        key: DocumentKey,
        reaction: &str,
    ) -> Result<Found, BoxError> {
        let (held, content) = match store.document(&key).await? {
            Some(document) => (Some(document.revision), serde_json::from_str::<Content>(&document.body)?),
            None => {
                let reaction = reaction.to_owned();
                (None, Content { reaction, basis: Version::NONE, rejections: BTreeMap::new() })
            }
        };
        if content.reaction != reaction {
            return Ok(Found::Taken(content.reaction));
        }
        Ok(Found::Turn(Self { store, ids, key, held, content }))
    }

    /// The version that the reaction is on, if it has begun.
    pub(super) fn basis(&self) -> Option<Version> {
        self.held.map(|_| self.content.basis)
    }

    /// Begins the turn on the version `basis`; says whether that was possible.
    pub(super) async fn begin(&mut self, basis: Version) -> Result<bool, BoxError> {
        self.content.basis = basis;
        match self.write().await {
            Ok(()) => Ok(true),
            Err(ChangeError::Outdated { .. }) => Ok(false),
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

    /// Remembers the rejection of the command `number`.
    pub(super) async fn reject<E: Serialize>(&mut self, number: u32, rejection: &E) -> Result<(), BoxError> {
        let rejection = serde_json::to_value(rejection)
            .map_err(|error| format!("a rejection cannot be remembered: {}", without_values(&error)))?;
        self.content.rejections.insert(number, rejection);
        Ok(self.write().await?)
    }

    /// Ends the turn, if it has begun.
    pub(super) async fn end(self) -> Result<(), BoxError> {
        if self.held.is_some() {
            let set = ChangeSet::new(self.ids.new_id()).delete(self.key, ExpectedDocument::Any);
            self.store.change(&set).await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), ChangeError> {
        let body = serde_json::to_string(&self.content)
            .map_err(|error| crate::store::StoreError::invalid(without_values(&error)))?;
        let set = ChangeSet::new(self.ids.new_id()).put(self.key.clone(), self.held.into(), body);
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
