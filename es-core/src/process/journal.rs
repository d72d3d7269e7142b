//! What a reaction was told, as long as it is not finished.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument, Revision};
use crate::event::without_values;
use crate::ids::IdSource;
use crate::projection::BoxError;

/// The rejections that one reaction got. They decide how it goes on, so they have to be the same when it runs
/// again, although the command might be accepted then.
pub(super) struct Journal {
    store: Arc<dyn Documents>,
    ids: Arc<dyn IdSource>,
    key: DocumentKey,
    revision: Option<Revision>,
    answers: Answers,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(crate = "crate::serde")]
struct Answers {
    /// By the number of the command.
    rejections: BTreeMap<u32, serde_json::Value>,
}

impl Journal {
    pub(super) async fn open(
        store: Arc<dyn Documents>,
        ids: Arc<dyn IdSource>,
        key: DocumentKey,
    ) -> Result<Self, BoxError> {
        let (revision, answers) = match store.document(&key).await? {
            Some(document) => (Some(document.revision), serde_json::from_str(&document.body)?),
            None => (None, Answers::default()),
        };
        Ok(Self { store, ids, key, revision, answers })
    }

    /// The rejection of the command `number`, if it was rejected before.
    pub(super) fn rejection<E: DeserializeOwned>(&self, number: u32) -> Result<Option<E>, BoxError> {
        let Some(rejection) = self.answers.rejections.get(&number) else { return Ok(None) };
        let rejection = serde_json::from_value(rejection.clone());
        Ok(Some(rejection.map_err(|error| {
            format!("a rejection that was remembered cannot be read any more: {}", without_values(&error))
        })?))
    }

    /// Remembers the rejection of the command `number`.
    pub(super) async fn reject<E: Serialize>(&mut self, number: u32, rejection: &E) -> Result<(), BoxError> {
        let rejection = serde_json::to_value(rejection)
            .map_err(|error| format!("a rejection cannot be remembered: {}", without_values(&error)))?;
        self.answers.rejections.insert(number, rejection);
        let body = serde_json::to_string(&self.answers)?;
        let set = ChangeSet::new(self.ids.new_id()).put(self.key.clone(), self.revision.into(), body);
        // The very same set again, so that it is known for sure what is remembered.
        let mut attempts = 0;
        while let Err(error) = self.store.change(&set).await {
            attempts += 1;
            match error {
                ChangeError::Store(error) if error.is_retryable() && attempts < 3 => {}
                error => return Err(error.into()),
            }
        }
        self.revision = Some(set.revision());
        Ok(())
    }

    /// Forgets it all: the reaction is finished.
    pub(super) async fn close(self) -> Result<(), BoxError> {
        if self.revision.is_some() {
            let set = ChangeSet::new(self.ids.new_id()).delete(self.key, ExpectedDocument::Any);
            self.store.change(&set).await?;
        }
        Ok(())
    }
}
