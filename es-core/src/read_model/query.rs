//! Queries of rows, and their page tokens.

use std::fmt::{self, Write as _};
use std::marker::PhantomData;

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};

use super::index::{FieldValue, OrderFields, RowIndex};
use super::key::{OrderText, key_text};
use super::kind::KeyKind;
use super::layout::{BUCKETS, Layout, decode};
use super::{ReadModel, ReadModelError, Row};
use crate::documents::{Document, DocumentKey, DocumentQuery, Documents, pages};

/// The number of rows that a count reads at once.
const COUNTED_AT_ONCE: u32 = 1_000;

/// A query for the rows of one group of an index. Created by [`ReadModel::find`].
///
/// `O` has the types of the order fields that the query can still restrict. [`only`](Self::only) fixes the first of
/// them. [`from`](Self::from), [`until`](Self::until), [`before`](Self::before), and [`between`](Self::between) bound
/// the next one:
///
/// ```
/// # use es_core::prelude::*;
/// # use es_core::read_model::ReadModelError;
/// # use es_core::serde::{Deserialize, Serialize};
/// # use es_core::chrono::NaiveDate;
/// #[derive(Clone, Row, Serialize, Deserialize)]
/// #[serde(crate = "es_core::serde")]
/// #[row(name = "orders", key = order, index(by_customer(customer, is_paid, placed)))]
/// struct OrderRow { order: String, customer: String, is_paid: bool, placed: NaiveDate }
///
/// /// Returns Ann's unpaid orders of a month, with the newest first.
/// async fn unpaid(
///     orders: &ReadModel<OrderRow>,
///     first: NaiveDate,
///     first_of_next: NaiveDate,
/// ) -> Result<Vec<OrderRow>, ReadModelError> {
///     let orders = orders.find(OrderRow::BY_CUSTOMER, "Ann").only(&false);
///     orders.from(&first).before(&first_of_next).descending().all().await
/// }
/// ```
///
/// # Order
///
/// Rows are ordered by the first order field, then by the second, and so on, and at last by their keys: integers by
/// value, times by instant, dates by day, `false` before `true`, and strings by the bytes of their UTF-8 form. `None`
/// follows the empty string, and precedes all other values. An enum is ordered by the names of its variants. For very
/// long strings, see [`Row`].
///
/// Bounds compare in this order. Several calls on one field narrow the range: a query whose bounds exclude each other
/// finds nothing.
#[must_use = "a query does nothing until `all`, `page`, or `count` is called"]
pub struct RowQuery<'a, T: Row, O> {
    rows: &'a ReadModel<T>,
    index: &'static str,
    /// The kinds of the index's fields.
    kinds: &'static [KeyKind],
    range: Result<Range, ReadModelError>,
    is_descending: bool,
    limit: Option<u32>,
    after: Option<String>,
    order: PhantomData<fn() -> O>,
}

/// The documents that a query selects: a range of names in the collection of a group.
#[derive(Debug)]
struct Range {
    group: String,
    /// The fixed order fields.
    fixed: OrderText,
    from: Option<String>,
    until: Option<String>,
}

impl Range {
    /// Restricts the range to names at or after `from`.
    fn narrow_from(&mut self, from: String) {
        self.from = self.from.take().max(Some(from));
    }

    /// Restricts the range to names at or before `until`.
    fn narrow_until(&mut self, until: String) {
        self.until = Some(self.until.take().map_or(until.clone(), |known| known.min(until)));
    }
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowPage<T> {
    /// The rows, in order.
    pub rows: Vec<T>,
    /// The page token to pass to [`RowQuery::after`] for the next page of the same query, or `None` if this is the
    /// last page.
    ///
    /// It consists of hexadecimal digits, and stays valid when the projection is rebuilt. It is bound to the query:
    /// everything except the limit must be the same. It is not secret: it contains the position of the last row in the
    /// index.
    pub next: Option<String>,
}

impl<'a, T: Row, O> RowQuery<'a, T, O> {
    pub(super) fn new<G, V>(rows: &'a ReadModel<T>, index: RowIndex<T, G, O>, group: &V) -> Self
    where
        V: FieldValue<G> + ?Sized,
    {
        let kinds = index.kinds();
        let group = key_text(T::NAME, kinds.first().copied().unwrap_or(KeyKind::Any), group);
        let fixed = OrderText::of_index(kinds);
        let range = group.map(|group| Range { group, fixed, from: None, until: None });
        let (index, order) = (index.name(), PhantomData);
        Self { rows, index, kinds, range, is_descending: false, limit: None, after: None, order }
    }

    /// Restricts the query to rows whose next order field is `value`. Later bounds apply to the field after it.
    pub fn only<V, F, R>(self, value: &V) -> RowQuery<'a, T, R>
    where
        O: OrderFields<F, R>,
        V: FieldValue<F> + ?Sized,
    {
        let query = self.narrowed(value, |range, order| {
            let (from, until) = order.bounds();
            range.narrow_from(from);
            range.narrow_until(until);
            range.fixed = order;
        });
        let RowQuery { rows, index, kinds, range, is_descending, limit, after, .. } = query;
        RowQuery { rows, index, kinds, range, is_descending, limit, after, order: PhantomData }
    }

    /// Restricts the query to rows whose next order field is `value` or greater.
    pub fn from<V, F, R>(self, value: &V) -> Self
    where
        O: OrderFields<F, R>,
        V: FieldValue<F> + ?Sized,
    {
        self.narrowed(value, |range, order| range.narrow_from(order.bounds().0))
    }

    /// Restricts the query to rows whose next order field is `value` or less.
    pub fn until<V, F, R>(self, value: &V) -> Self
    where
        O: OrderFields<F, R>,
        V: FieldValue<F> + ?Sized,
    {
        self.narrowed(value, |range, order| range.narrow_until(order.bounds().1))
    }

    /// Restricts the query to rows whose next order field is less than `value`.
    pub fn before<V, F, R>(self, value: &V) -> Self
    where
        O: OrderFields<F, R>,
        V: FieldValue<F> + ?Sized,
    {
        self.narrowed(value, |range, order| range.narrow_until(order.bounds().0))
    }

    /// Restricts the query to rows whose next order field is between `from` and `until`, both included. For a range
    /// without its end, such as the times of a day, call [`from`](Self::from) and [`before`](Self::before).
    pub fn between<V, F, R>(self, from: &V, until: &V) -> Self
    where
        O: OrderFields<F, R>,
        V: FieldValue<F> + ?Sized,
    {
        self.from(from).until(until)
    }

    /// Applies `narrow` to the range, with the fixed order fields and `value` as the next one.
    fn narrowed<V, F, R>(mut self, value: &V, narrow: impl FnOnce(&mut Range, OrderText)) -> Self
    where
        O: OrderFields<F, R>,
        V: FieldValue<F> + ?Sized,
    {
        self.range = self.range.and_then(|mut range| {
            let mut order = range.fixed.clone();
            let kind = self.kinds.get(order.fields() + 1).copied().unwrap_or(KeyKind::Any);
            order.push_value(T::NAME, kind, value)?;
            narrow(&mut range, order);
            Ok(range)
        });
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
    ///
    /// A token may come from a client. A modified token is rejected, and never returns rows that this query does not
    /// select.
    pub fn after(mut self, next: Option<String>) -> Self {
        self.after = next;
        self
    }

    /// Returns one page.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::PageToken`] if the token of [`after`](Self::after) is damaged, or comes from another query.
    /// [`ReadModelError::Mismatch`] if a value is not serialized as its field is. Other errors if the rows cannot be
    /// read.
    pub async fn page(self) -> Result<RowPage<T>, ReadModelError> {
        let (rows, prepared) = (self.rows, self.prepare()?);
        let (found, next) = rows.read(|layout| page(rows, prepared.query(&layout))).await?;
        Ok(RowPage { rows: found, next: next.map(|name| page_token(&prepared.context, &name)) })
    }

    /// Returns all remaining rows.
    ///
    /// # Errors
    ///
    /// As for [`page`](Self::page).
    pub async fn all(self) -> Result<Vec<T>, ReadModelError> {
        let (rows, prepared) = (self.rows, self.prepare()?);
        rows.read(|layout| all_pages(rows, prepared.query(&layout))).await
    }

    /// Returns the number of remaining rows, or `most` if there are more.
    ///
    /// ```
    /// # use es_core::prelude::*;
    /// # use es_core::read_model::ReadModelError;
    /// # use es_core::serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Row, Serialize, Deserialize)]
    /// # #[serde(crate = "es_core::serde")]
    /// # #[row(name = "orders", key = order, index(by_customer(customer)))]
    /// # struct OrderRow { order: String, customer: String }
    /// /// Returns the number of Ann's orders as a web page shows it.
    /// async fn badge(orders: &ReadModel<OrderRow>) -> Result<String, ReadModelError> {
    ///     Ok(match orders.find(OrderRow::BY_CUSTOMER, "Ann").count(100).await? {
    ///         100 => "99+".to_owned(),
    ///         count => count.to_string(),
    ///     })
    /// }
    /// ```
    ///
    /// # Cost
    ///
    /// A count costs what reading the counted rows costs, because DynamoDB bills the rows that it passes over: one read
    /// unit per 4 KB. 1,000 rows of 200 bytes take about 50 read units. Therefore it has a limit. For the number of
    /// rows of a large group, let the projection keep a row with the count.
    ///
    /// # Errors
    ///
    /// As for [`page`](Self::page).
    pub async fn count(self, most: u64) -> Result<u64, ReadModelError> {
        let (rows, page_size) = (self.rows, self.limit.unwrap_or(COUNTED_AT_ONCE));
        let prepared = self.prepare()?;
        rows.read(|layout| count_pages(rows, prepared.query(&layout), page_size, most)).await
    }

    /// Returns the query, independent of the build that it reads.
    fn prepare(self) -> Result<Prepared, ReadModelError> {
        let Range { group, from, until, .. } = self.range?;
        let bound =
            |bound: &Option<String>| bound.as_ref().map_or("-".to_owned(), |bound| format!("={bound}"));
        let direction = if self.is_descending { "descending" } else { "ascending" };
        let context = token_context(&[T::NAME, self.index, &group, &bound(&from), &bound(&until), direction]);
        let after = match &self.after {
            None => None,
            Some(token) => {
                Some(name_after(&context, token).ok_or(ReadModelError::PageToken { model: T::NAME })?)
            }
        };
        let Self { index, is_descending, limit, .. } = self;
        Ok(Prepared { index, group, from, until, after, is_descending, limit, context })
    }
}

/// A query whose values are encoded.
struct Prepared {
    index: &'static str,
    group: String,
    from: Option<String>,
    until: Option<String>,
    after: Option<String>,
    is_descending: bool,
    limit: Option<u32>,
    /// The context of the page tokens, which is the same in every build.
    context: String,
}

impl Prepared {
    /// Returns the query of one build.
    fn query(&self, layout: &Layout) -> DocumentQuery {
        let Self { from, until, after, .. } = self;
        let query = DocumentQuery::new(layout.group(self.index, &self.group));
        let mut query = query.from(from.clone()).until(until.clone()).after(after.clone());
        if self.is_descending {
            query = query.descending();
        }
        if let Some(limit) = self.limit {
            query = query.limit(limit);
        }
        query
    }
}

impl<T: Row, O> fmt::Debug for RowQuery<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowQuery")
            .field("rows", self.rows)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// A listing of all rows, in an unspecified order. Created by [`ReadModel::rows`].
#[must_use = "a listing does nothing until `page` is called"]
#[derive(Debug)]
pub struct RowListing<'a, T: Row> {
    rows: &'a ReadModel<T>,
    limit: u32,
    after: Option<String>,
}

impl<'a, T: Row> RowListing<'a, T> {
    pub(super) fn new(rows: &'a ReadModel<T>) -> Self {
        Self { rows, limit: 100, after: None }
    }

    /// Sets the maximum number of rows in a page (default: 100).
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// Continues after the page with this [`next`](RowPage::next) token. `None` begins at the first row.
    pub fn after(mut self, next: Option<String>) -> Self {
        self.after = next;
        self
    }

    /// Returns one page. Only the last page may have fewer rows than the [limit](Self::limit), unless rows are large:
    /// a page has at most about 1 MB.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::PageToken`] if the token of [`after`](Self::after) is damaged, or comes from another query.
    /// Other errors if the rows cannot be read.
    pub async fn page(self) -> Result<RowPage<T>, ReadModelError> {
        let context = token_context(&[T::NAME]);
        let (bucket, after) = match &self.after {
            None => (0, None),
            Some(token) => match name_after(&context, token).and_then(|name| split_listed(&name)) {
                Some((bucket, name)) => (bucket, Some(name)),
                None => return Err(ReadModelError::PageToken { model: T::NAME }),
            },
        };
        let (rows, limit) = (self.rows, self.limit);
        let (found, next) =
            rows.read(|layout| page_of_buckets(rows, layout, limit, bucket, after.clone())).await?;
        Ok(RowPage { rows: found, next: next.map(|next| page_token(&context, &next)) })
    }
}

/// Returns the rows of a page that begins after the row `after` of a bucket, and the place at which the next page
/// begins.
async fn page_of_buckets<T: Row>(
    rows: &ReadModel<T>,
    layout: Layout,
    limit: u32,
    mut bucket: u32,
    mut after: Option<String>,
) -> Result<(Vec<T>, Option<String>), ReadModelError> {
    let mut all = Vec::new();
    loop {
        let left = limit - u32::try_from(all.len()).unwrap_or(limit);
        let query = DocumentQuery::new(layout.bucket(bucket)).after(after.take()).limit(left);
        let (found, next) = page(rows, query).await?;
        all.extend(found);
        let next = match next {
            Some(name) => Some(listed(bucket, &name)),
            None if bucket + 1 == BUCKETS => None,
            None if all.len() < limit as usize => {
                bucket += 1;
                continue;
            }
            None => Some(listed(bucket + 1, "")),
        };
        return Ok((all, next));
    }
}

/// Returns the place in a listing after the row `name` of a bucket, or at the bucket's beginning if it is empty.
fn listed(bucket: u32, name: &str) -> String {
    format!("{bucket}/{name}")
}

/// Returns the bucket of a place in a listing, and the name after which to continue. A bucket is continued after the
/// empty name to begin it: a row whose key is empty is in the first bucket, which no token begins.
fn split_listed(place: &str) -> Option<(u32, String)> {
    let (bucket, name) = place.split_once('/')?;
    Some((bucket.parse().ok().filter(|bucket| *bucket < BUCKETS)?, name.to_owned()))
}

/// Returns the rows of a page, and the name of the document after which the next page begins.
async fn page<T: Row>(
    rows: &ReadModel<T>,
    query: DocumentQuery,
) -> Result<(Vec<T>, Option<String>), ReadModelError> {
    let page = rows.store.documents(&query).await?;
    let decoded = page.documents.iter().map(|(_, Document { body, .. })| decode(body));
    Ok((decoded.collect::<Result<_, _>>()?, page.next))
}

/// Returns the rows of all pages.
async fn all_pages<T: Row>(rows: &ReadModel<T>, query: DocumentQuery) -> Result<Vec<T>, ReadModelError> {
    let mut all = Vec::new();
    let mut pages = pages(&*rows.store, query);
    while let Some(page) = pages.try_next().await? {
        for (_, Document { body, .. }) in &page.documents {
            all.push(decode(body)?);
        }
    }
    Ok(all)
}

/// Returns the number of rows on all pages, or `most` if there are more.
async fn count_pages<T: Row>(
    rows: &ReadModel<T>,
    mut query: DocumentQuery,
    page_size: u32,
    most: u64,
) -> Result<u64, ReadModelError> {
    let mut counted = 0;
    while counted < most {
        let left = u32::try_from(most - counted).unwrap_or(u32::MAX);
        let page = rows.store.documents(&query.clone().limit(left.min(page_size))).await?;
        counted += page.documents.len() as u64;
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => break,
        }
    }
    Ok(counted)
}

pub(super) async fn all_rows<T: Row>(rows: &ReadModel<T>) -> Result<Vec<T>, ReadModelError> {
    let all = |layout: Layout| async move {
        let mut all = Vec::new();
        for bucket in 0..BUCKETS {
            all.extend(all_pages(rows, DocumentQuery::new(layout.bucket(bucket))).await?);
        }
        Ok(all)
    };
    rows.read(all).await
}

/// The length of the digest at the start of a page token.
const DIGEST_BYTES: usize = 8;

/// Returns the context of a query's page tokens: the parts of the query that must be the same for a token to be valid.
fn token_context(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("{}:{part}", part.len())).collect()
}

/// Returns the token for the page after the document `name`. `context` identifies the query.
fn page_token(context: &str, name: &str) -> String {
    let mut token = String::with_capacity(2 * (DIGEST_BYTES + name.len()));
    for byte in digest(context, name).iter().chain(name.as_bytes()) {
        // Writing to a `String` cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

/// Returns the document name in a page token, or `None` if the token does not belong to this query.
fn name_after(context: &str, token: &str) -> Option<String> {
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
    let (pairs, rest) = token.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| byte(pair)).collect::<Option<Vec<_>>>()?;
    let (expected, name) = bytes.split_first_chunk::<DIGEST_BYTES>()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    // A client that computes the digest of another name still gets only rows of this query.
    let is_sound = rest.is_empty()
        && name.len() <= DocumentKey::MAX_NAME_BYTES
        && digest(context, &name) == *expected
        && page_token(context, &name) == token;
    is_sound.then_some(name)
}

fn digest(context: &str, name: &str) -> [u8; DIGEST_BYTES] {
    let mut digest = Sha256::new();
    digest.update((context.len() as u64).to_be_bytes());
    digest.update(context);
    digest.update(name);
    *digest.finalize().first_chunk().expect("a SHA-256 digest has 32 bytes")
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
