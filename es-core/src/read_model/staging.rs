//! Rows that wait for the checkpoint.

use std::collections::BTreeMap;

use super::layout::Layout;
use super::{ReadModelError, Row};
use crate::documents::{DocumentChange, Documents};

/// The changes of a read model since the last checkpoint.
pub(super) struct Staging<T> {
    pub(super) layout: Layout,
    /// Of the events that were handled; `None` for a row that is deleted.
    kept: BTreeMap<String, Option<T>>,
    /// Of the event that is being handled.
    current: BTreeMap<String, Option<T>>,
}

impl<T: Row> Staging<T> {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, kept: BTreeMap::new(), current: BTreeMap::new() }
    }

    /// The row as it is going to be, if it is changed at all.
    pub(super) fn get(&self, key: &str) -> Option<Option<&T>> {
        self.current.get(key).or_else(|| self.kept.get(key)).map(Option::as_ref)
    }

    pub(super) fn set(&mut self, key: String, row: Option<T>) {
        self.current.insert(key, row);
    }

    pub(super) fn keep(&mut self) {
        self.kept.append(&mut self.current);
    }

    pub(super) fn undo(&mut self) {
        self.current.clear();
    }

    /// The most documents that have to be changed for all of it: of each row, and of its old and its new
    /// place in each index.
    pub(super) fn most_changes(&self) -> usize {
        let more = self.current.keys().filter(|key| !self.kept.contains_key(*key)).count();
        (self.kept.len() + more) * (1 + 2 * T::INDEXES.len())
    }

    /// The documents to change for all that was kept.
    pub(super) async fn changes(&self, store: &dyn Documents) -> Result<Vec<DocumentChange>, ReadModelError> {
        let mut changes = Vec::new();
        for (key, row) in &self.kept {
            let before = match T::INDEXES {
                // Nothing but the row itself has to be removed.
                [] => None,
                _ => store.document(&self.layout.row(key)).await?,
            };
            let before = before.as_ref().map(|document| document.body.as_str());
            changes.append(&mut self.layout.changes(key, before, row.as_ref())?);
        }
        Ok(changes)
    }

    pub(super) fn written(&mut self) {
        self.kept.clear();
    }
}
