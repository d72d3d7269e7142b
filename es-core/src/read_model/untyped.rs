//! Deleting the rows of a build, whose type may be unknown.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_core::future::BoxFuture;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;

use super::layout::{BUCKETS, Layout};
use crate::documents::{ChangeError, ChangeSet, DocumentChange, DocumentQuery, Documents, pages};
use crate::event::without_values;
use crate::ids::{IdSource, RandomIds};
use crate::projection::{BoxError, Stage};

/// The rows of a read model whose type is unknown. They can only be deleted.
///
/// It is for tools that operate a projection by its name: a [`Projection`](crate::Projection) that returns it as a
/// [`Stage`] deletes the rows with [`Projector::delete_replaced`](crate::Projector::delete_replaced) and
/// [`Projector::remove`](crate::Projector::remove).
/// [`Registration::read_models`](crate::projection::Registration::read_models) has the names of the read models.
#[derive(Clone)]
pub struct UntypedRows {
    store: Arc<dyn Documents>,
    model: Arc<str>,
    deleted: Arc<AtomicU64>,
}

impl UntypedRows {
    /// Returns a handle to the rows of the read model `model` in `store`.
    #[must_use]
    pub fn new(store: &(impl Documents + Clone), model: &str) -> Self {
        Self { store: Arc::new(store.clone()), model: model.into(), deleted: Arc::default() }
    }

    /// Returns the number of rows that this handle and its clones have deleted.
    #[must_use]
    pub fn deleted(&self) -> u64 {
        self.deleted.load(Ordering::Relaxed)
    }
}

#[diagnostic::do_not_recommend]
impl Stage for UntypedRows {
    fn name(&self) -> &str {
        &self.model
    }

    fn bind(&mut self, _: &str, _: u32) {}

    fn keep(&mut self) {}

    fn undo(&mut self) {}

    fn most_changes(&self) -> usize {
        0
    }

    fn most_bytes(&self) -> u64 {
        0
    }

    fn changes(&mut self) -> BoxFuture<'_, Result<Vec<DocumentChange>, BoxError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn delete<'a>(&'a self, projection: &'a str, build: u32) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(delete_rows(&*self.store, projection, build, &self.model, &self.deleted))
    }

    fn forget(&mut self) {}
}

impl fmt::Debug for UntypedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntypedRows").field("rows", &self.model).finish_non_exhaustive()
    }
}

/// Deletes all rows of a build, and their copies in indexes. Adds the number of rows to `deleted`.
///
/// The buckets are emptied at the same time, one row of each after the other: a transaction over several rows would take
/// twice the write units.
pub(super) async fn delete_rows(
    store: &dyn Documents,
    projection: &str,
    build: u32,
    model: &str,
    deleted: &AtomicU64,
) -> Result<(), BoxError> {
    let layout = &Layout::new(projection, build, model);
    let empty = async |bucket| {
        let mut pages = pages(store, DocumentQuery::new(layout.bucket(bucket)));
        while let Some(page) = pages.try_next().await? {
            for (key, document) in &page.documents {
                let changes = layout.deletion(key, &document.body).map_err(|error| {
                    format!("a row of `{model}` cannot be decoded: {}", without_values(&error))
                })?;
                let set = ChangeSet::new(RandomIds.new_id()).with_changes(changes);
                store.change(&set).await.map_err(ChangeError::into_store_error)?;
                deleted.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok::<_, BoxError>(())
    };
    try_join_all((0..BUCKETS).map(empty)).await?;
    Ok(())
}
