//! Listing rows.

use serde::Serialize;

use super::layout::{BUCKETS, Layout, decode};
use super::row::{SEPARATOR, order_text};
use super::{ReadModel, ReadModelError, Row};
use crate::documents::{ChangeError, ChangeSet, Document, DocumentQuery, Documents, ExpectedDocument};
use crate::ids::{IdSource, RandomIds};

/// A question for the rows of one group of an index: made by [`ReadModel::find`].
#[must_use = "a query does nothing until `all` or `page` is called"]
#[derive(Debug)]
pub struct RowQuery<'a, T: Row> {
    rows: &'a ReadModel<T>,
    index: String,
    group: Result<String, ReadModelError>,
    query: DocumentQuery,
    prefix: Result<String, ReadModelError>,
}

/// Some rows, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowPage<T> {
    /// The rows, in order.
    pub rows: Vec<T>,
    /// What to give to [`RowQuery::after`] for the next page; `None` when there are no more rows.
    pub next: Option<String>,
}

impl<'a, T: Row> RowQuery<'a, T> {
    pub(super) fn new(rows: &'a ReadModel<T>, index: &str, group: Result<String, ReadModelError>) -> Self {
        let query = DocumentQuery::new(String::new());
        Self { rows, index: index.to_owned(), group, query, prefix: Ok(String::new()) }
    }

    /// Those only whose first field of the order is `value`.
    pub fn only(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.prefix = order_text(T::NAME, &value).map(|text| format!("{text}{SEPARATOR}"));
        self
    }

    /// From the last to the first.
    pub fn descending(mut self) -> Self {
        self.query = self.query.descending();
        self
    }

    /// At most `limit` rows in a page; 100 if nothing is said.
    pub fn limit(mut self, limit: u32) -> Self {
        self.query = self.query.limit(limit);
        self
    }

    /// After the page that named `next`.
    pub fn after(mut self, next: Option<String>) -> Self {
        self.query = self.query.after(next);
        self
    }

    /// One page.
    ///
    /// # Errors
    ///
    /// [`ReadModelError`] when it cannot be read, or the index is unknown.
    pub async fn page(self) -> Result<RowPage<T>, ReadModelError> {
        let rows = self.rows;
        let query = self.prepare().await?;
        page(rows, &query).await
    }

    /// All rows that are left.
    ///
    /// # Errors
    ///
    /// As [`page`](Self::page).
    pub async fn all(self) -> Result<Vec<T>, ReadModelError> {
        let rows = self.rows;
        let query = self.prepare().await?;
        all_pages(rows, query).await
    }

    async fn prepare(self) -> Result<DocumentQuery, ReadModelError> {
        if !T::INDEXES.contains(&self.index.as_str()) {
            let known = T::INDEXES.join(", ");
            return Err(ReadModelError::UnknownIndex { model: T::NAME, index: self.index, known });
        }
        let mut query = self.query.prefix(self.prefix?);
        query.collection = self.rows.layout().await?.group(&self.index, &self.group?);
        Ok(query)
    }
}

async fn page<T: Row>(rows: &ReadModel<T>, query: &DocumentQuery) -> Result<RowPage<T>, ReadModelError> {
    let page = rows.store.documents(query).await?;
    let decoded = page.documents.iter().map(|(_, Document { body, .. })| decode(body));
    Ok(RowPage { rows: decoded.collect::<Result<_, _>>()?, next: page.next })
}

async fn all_pages<T: Row>(rows: &ReadModel<T>, mut query: DocumentQuery) -> Result<Vec<T>, ReadModelError> {
    let mut all = Vec::new();
    loop {
        let page = page(rows, &query).await?;
        all.extend(page.rows);
        if page.next.is_none() {
            return Ok(all);
        }
        query.after = page.next;
    }
}

pub(super) async fn all_rows<T: Row>(rows: &ReadModel<T>) -> Result<Vec<T>, ReadModelError> {
    let layout = rows.layout().await?;
    let mut all = Vec::new();
    for bucket in 0..BUCKETS {
        all.extend(all_pages(rows, DocumentQuery::new(layout.bucket(bucket))).await?);
    }
    Ok(all)
}

/// Deletes all rows, and their places in indexes.
pub(super) async fn delete_rows<T: Row>(
    store: &dyn Documents,
    layout: &Layout,
) -> Result<(), ReadModelError> {
    for bucket in 0..BUCKETS {
        let mut query = DocumentQuery::new(layout.bucket(bucket));
        loop {
            let page = store.documents(&query).await?;
            for (key, document) in &page.documents {
                let changes = layout.changes::<T>(key, ExpectedDocument::Any, Some(&document.body), None)?;
                let set = ChangeSet::new(RandomIds.new_id()).with(changes);
                store.change(&set).await.map_err(ChangeError::into_store_error)?;
            }
            if page.next.is_none() {
                break;
            }
            query = query.after(page.next);
        }
    }
    Ok(())
}
