//! Queries of rows, and their page tokens.

use std::fmt::Write as _;

use serde::Serialize;

use super::key::{key_text, order_prefix};
use super::kind::KeyKind;
use super::layout::{BUCKETS, Layout, decode};
use super::{ReadModel, ReadModelError, Row};
use crate::documents::{ChangeError, ChangeSet, Document, DocumentQuery, Documents, ExpectedDocument};
use crate::ids::{IdSource, RandomIds};

/// A query for the rows of one group of an index. Created by [`ReadModel::find`].
#[must_use = "a query does nothing until `all` or `page` is called"]
#[derive(Debug)]
pub struct RowQuery<'a, T: Row> {
    rows: &'a ReadModel<T>,
    index: String,
    /// The kinds of the index's fields.
    kinds: &'static [KeyKind],
    group: Result<String, ReadModelError>,
    prefix: Result<String, ReadModelError>,
    is_descending: bool,
    limit: Option<u32>,
    after: Option<String>,
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowPage<T> {
    /// The rows, in order.
    pub rows: Vec<T>,
    /// The page token to pass to [`RowQuery::after`] for the next page of the same query, or `None` if this is the
    /// last page. It consists of hexadecimal digits, and stays valid when the projection is rebuilt.
    pub next: Option<String>,
}

impl<'a, T: Row> RowQuery<'a, T> {
    pub(super) fn new(rows: &'a ReadModel<T>, index: &str, group: &(impl Serialize + ?Sized)) -> Self {
        let number = T::INDEXES.iter().position(|known| *known == index);
        let kinds = number.map_or(&[][..], |number| T::kinds().of_index(number));
        let group = match number {
            Some(_) => key_text(T::NAME, kinds.first().copied().unwrap_or(KeyKind::Any), group),
            None => {
                let known = T::INDEXES.join(", ");
                Err(ReadModelError::UnknownIndex { model: T::NAME, index: index.to_owned(), known })
            }
        };
        let (index, prefix) = (index.to_owned(), Ok(String::new()));
        Self { rows, index, kinds, group, prefix, is_descending: false, limit: None, after: None }
    }

    /// Restricts the query to rows whose first order field is `value`.
    pub fn only(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.prefix = match self.kinds.get(1) {
            Some(kind) => order_prefix(T::NAME, *kind, value),
            None => Err(ReadModelError::NoOrder { model: T::NAME, index: self.index.clone() }),
        };
        self
    }

    /// Returns the rows in descending order (default: ascending).
    pub fn descending(mut self) -> Self {
        self.is_descending = true;
        self
    }

    /// Sets the maximum number of rows in a page (default: 100).
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Continues after the page with this [`next`](RowPage::next) token. `None` begins at the first row.
    pub fn after(mut self, next: Option<String>) -> Self {
        self.after = next;
        self
    }

    /// Returns one page.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::UnknownIndex`] if there is no such index. [`ReadModelError::Mismatch`] if the group or
    /// the value of [`only`](Self::only) does not have the field's type. [`ReadModelError::PageToken`] if the
    /// token of [`after`](Self::after) comes from another query. Other errors if the rows cannot be read.
    pub async fn page(self) -> Result<RowPage<T>, ReadModelError> {
        let rows = self.rows;
        let (query, context) = self.prepare().await?;
        let (found, next) = page(rows, &query).await?;
        Ok(RowPage { rows: found, next: next.map(|name| page_token(&context, &name)) })
    }

    /// Returns all remaining rows.
    ///
    /// # Errors
    ///
    /// As for [`page`](Self::page).
    pub async fn all(self) -> Result<Vec<T>, ReadModelError> {
        let rows = self.rows;
        let (query, _) = self.prepare().await?;
        all_pages(rows, query).await
    }

    /// Returns the query, and the context of its page tokens, which is the same in every build of the projection.
    async fn prepare(self) -> Result<(DocumentQuery, String), ReadModelError> {
        let (group, prefix) = (self.group?, self.prefix?);
        let direction = if self.is_descending { "descending" } else { "ascending" };
        let context = [T::NAME, &self.index, &group, &prefix, direction].join("\u{1}");
        let after = match &self.after {
            None => None,
            Some(token) => match name_after(&context, token) {
                Some(name) => Some(name),
                None => return Err(ReadModelError::PageToken { model: T::NAME }),
            },
        };
        let collection = self.rows.layout().await?.group(&self.index, &group);
        let mut query = DocumentQuery::new(collection).prefix(prefix).after(after);
        if self.is_descending {
            query = query.descending();
        }
        if let Some(limit) = self.limit {
            query = query.limit(limit);
        }
        Ok((query, context))
    }
}

/// Returns the rows of a page, and the name of the document after which the next page begins.
async fn page<T: Row>(
    rows: &ReadModel<T>,
    query: &DocumentQuery,
) -> Result<(Vec<T>, Option<String>), ReadModelError> {
    let page = rows.store.documents(query).await?;
    let decoded = page.documents.iter().map(|(_, Document { body, .. })| decode(body));
    Ok((decoded.collect::<Result<_, _>>()?, page.next))
}

async fn all_pages<T: Row>(rows: &ReadModel<T>, mut query: DocumentQuery) -> Result<Vec<T>, ReadModelError> {
    let mut all = Vec::new();
    loop {
        let (found, next) = page(rows, &query).await?;
        all.extend(found);
        if next.is_none() {
            return Ok(all);
        }
        query.after = next;
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

/// Deletes all rows and their copies in indexes.
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
                let set = ChangeSet::new(RandomIds.new_id()).with_changes(changes);
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

/// The length of the checksum at the start of a page token.
const CHECKSUM_BYTES: usize = 4;

/// Returns the token for the page after the row `name`. `context` identifies the query.
fn page_token(context: &str, name: &str) -> String {
    let checksum = checksum(context, name).to_be_bytes();
    let mut token = String::with_capacity(2 * (CHECKSUM_BYTES + name.len()));
    for byte in checksum.iter().chain(name.as_bytes()) {
        // Writing to a `String` cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

/// Returns the row name in a page token, or `None` if the token does not belong to this query.
fn name_after(context: &str, token: &str) -> Option<String> {
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
    let (pairs, rest) = token.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| byte(pair)).collect::<Option<Vec<_>>>()?;
    let (expected, name) = bytes.split_first_chunk::<CHECKSUM_BYTES>()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    let is_sound = rest.is_empty() && checksum(context, &name) == u32::from_be_bytes(*expected);
    is_sound.then_some(name)
}

fn checksum(context: &str, name: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [context, name] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_for_its_query_only() {
        let token = page_token("by_owner Ann", "a\u{1}1");
        assert_eq!(name_after("by_owner Ann", &token).as_deref(), Some("a\u{1}1"));
        assert_eq!(name_after("by_owner Bob", &token), None);
        for damaged in
            ["", "x", "zz", "ü", "00000000", &token[1..], &token[..token.len() - 2], &format!("{token}0")]
        {
            assert_eq!(name_after("by_owner Ann", damaged), None, "{damaged}");
        }
    }
}
