//! Deleting the rows of a build, whose type may be unknown.

use std::fmt;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::TryStreamExt;

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
}

impl UntypedRows {
    /// Returns a handle to the rows of the read model `model` in `store`.
    #[must_use]
    pub fn new(store: &(impl Documents + Clone), model: &str) -> Self {
        Self { store: Arc::new(store.clone()), model: model.into() }
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
        Box::pin(delete_rows(&*self.store, projection, build, &self.model))
    }

    fn forget(&mut self) {}
}

impl fmt::Debug for UntypedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntypedRows").field("rows", &self.model).finish_non_exhaustive()
    }
}

/// Deletes all rows of a build, and their copies in indexes.
pub(super) async fn delete_rows(
    store: &dyn Documents,
    projection: &str,
    build: u32,
    model: &str,
) -> Result<(), BoxError> {
    let layout = Layout::new(projection, build, model);
    for bucket in 0..BUCKETS {
        let mut pages = pages(store, DocumentQuery::new(layout.bucket(bucket)));
        while let Some(page) = pages.try_next().await? {
            for (key, document) in &page.documents {
                let changes = layout.deletion(key, &document.body).map_err(|error| {
                    format!("a row of `{model}` cannot be decoded: {}", without_values(&error))
                })?;
                let set = ChangeSet::new(RandomIds.new_id()).with_changes(changes);
                store.change(&set).await.map_err(ChangeError::into_store_error)?;
            }
        }
    }
    Ok(())
}
