//! Pending changes of rows, written with the next checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layout::{Layout, read_back};
use super::{ReadModelError, Row};
use crate::documents::{Document, DocumentChange, Documents, ExpectedDocument};
use crate::store::StoreError;

/// The changes of a read model since the last checkpoint.
pub(super) struct Staging<T> {
    pub(super) layout: Layout,
    /// Changes by events that were handled.
    kept: BTreeMap<String, Staged<T>>,
    kept_bytes: u64,
    /// Changes by the current event.
    current: BTreeMap<String, Staged<T>>,
    /// The rows read since the last checkpoint, as stored.
    seen: Mutex<HashMap<String, Option<Document>>>,
}

/// A pending change of a row.
struct Staged<T> {
    /// `None` if the row is deleted.
    row: Option<T>,
    /// An upper bound of the bytes needed to write the row and its copies in indexes, and to delete the previous
    /// ones.
    bytes: u64,
}

impl<T: Row> Staging<T> {
    pub(super) fn new(layout: Layout) -> Self {
        let (kept, current) = (BTreeMap::new(), BTreeMap::new());
        Self { layout, kept, kept_bytes: 0, current, seen: Mutex::default() }
    }

    /// Returns the pending state of a row, or `None` if it is unchanged. The inner `None` is a deletion.
    pub(super) fn get(&self, key: &str) -> Option<Option<&T>> {
        self.current.get(key).or_else(|| self.kept.get(key)).map(|staged| staged.row.as_ref())
    }

    /// Changes a row. A row that cannot be stored or decoded again is rejected here, where the event is known.
    pub(super) fn set(&mut self, key: String, row: Option<T>) -> Result<(), ReadModelError> {
        // Keep the row as readers will decode it.
        let row = row.map(|row| read_back(&key, &row)).transpose()?;
        let mut bytes = T::INDEXES.len() as u64 * DocumentChange::MAX_DELETE_BYTES;
        for change in self.layout.changes(&key, ExpectedDocument::Any, None, row.as_ref())? {
            change.key.checked()?;
            bytes += change.bytes();
            if change.bytes() > Document::MAX_BYTES {
                let what = format!("the row `{key}` of `{}`", T::NAME);
                return Err(StoreError::too_large(what, change.bytes(), Document::MAX_BYTES).into());
            }
        }
        self.current.insert(key, Staged { row, bytes });
        Ok(())
    }

    pub(super) fn keep(&mut self) {
        self.kept_bytes = self.most_bytes();
        self.kept.append(&mut self.current);
    }

    pub(super) fn undo(&mut self) {
        self.current.clear();
    }

    /// Returns an upper bound of the changed documents: each row, and its previous and new place in each index.
    pub(super) fn most_changes(&self) -> usize {
        let more = self.current.keys().filter(|key| !self.kept.contains_key(*key)).count();
        (self.kept.len() + more) * (1 + 2 * T::INDEXES.len())
    }

    /// Returns an upper bound of the bytes of all pending changes.
    pub(super) fn most_bytes(&self) -> u64 {
        let replaced = |key| self.kept.get(key).map_or(0, |staged| staged.bytes);
        self.current.iter().fold(self.kept_bytes, |bytes, (key, staged)| bytes + staged.bytes - replaced(key))
    }

    /// Returns the stored row. The checkpoint fails if the row has changed by then, and the events are handled
    /// again: events of other slices may change the same row.
    pub(super) async fn read(
        &self,
        store: &dyn Documents,
        key: &str,
    ) -> Result<Option<Document>, StoreError> {
        if let Some(seen) = self.seen().get(key) {
            return Ok(seen.clone());
        }
        let document = store.document(&self.layout.row(key)).await?;
        self.seen().insert(key.to_owned(), document.clone());
        Ok(document)
    }

    /// Returns the document changes for all handled events.
    pub(super) async fn changes(&self, store: &dyn Documents) -> Result<Vec<DocumentChange>, ReadModelError> {
        let mut changes = Vec::new();
        for (key, Staged { row, .. }) in &self.kept {
            // Without indexes, only the row itself is replaced, so its stored state is not needed.
            let is_seen = self.seen().contains_key(key);
            let before = match is_seen || !T::INDEXES.is_empty() {
                true => Some(self.read(store, key).await?),
                false => None,
            };
            let expected = match &before {
                Some(before) => before.as_ref().map(|document| document.revision).into(),
                None => ExpectedDocument::Any,
            };
            let body = before.as_ref().and_then(|before| Some(before.as_ref()?.body.as_str()));
            changes.append(&mut self.layout.changes(key, expected, body, row.as_ref())?);
        }
        Ok(changes)
    }

    pub(super) fn forget(&mut self) {
        self.kept.clear();
        self.kept_bytes = 0;
        self.current.clear();
        self.seen().clear();
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Option<Document>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
