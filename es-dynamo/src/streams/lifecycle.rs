//! The end of a stream: its last commit, which may be a lifecycle commit, and erasing its content.
//!
//! Two conditions keep a delayed request from undoing a later step. An item that was erased for an archive has the
//! version of the commit that recorded the archive, and is only restored from that archive. A restored item has this
//! version, too, and is only erased for a later archive. The content of a deleted stream is erased without a condition:
//! no step follows.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::store::{Claim, Head, StreamState};
use es_core::{Cost, StoreError, StreamId, Version};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::claims::claim_key;
use super::item::{Attributes, Format};
use super::read::HEAD_ATTRIBUTES;
use crate::table::{Item, ItemPage, Table, item_size, key, names};

/// The format number of a lifecycle commit.
pub(crate) const LIFECYCLE: &str = "3";

/// The format number of an item whose events were erased.
pub(crate) const ERASED: &str = "5";

/// The condition that an item has content that was not restored from the archive recorded at `:at`, or a later one.
const HAS_CONTENT: &str =
    "(attribute_not_exists(f) OR f <> :erased) AND (attribute_not_exists(ra) OR ra < :at)";

/// How many items are erased or restored concurrently.
const WRITES_AT_ONCE: usize = 16;

impl Table {
    /// Returns the end of a stream. The event of a lifecycle commit takes another read.
    pub(crate) async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        let (found, mut cost) = self.last_item(stream, Version::MAX).await?;
        let Some(mut attributes) = found else { return Ok(Head::new(Version::NONE, cost)) };
        let (format, time) = (attributes.format()?, attributes.time().ok());
        let commit = attributes.head()?;
        let mut head = Head::new(commit.last, Cost::ZERO);
        head.time = time;
        if format == Format::Lifecycle {
            let (item, read) = self.get(key(stream.as_str(), names::commit_key(commit.first))).await?;
            cost += read;
            let part =
                item.map(|item| Attributes::of(stream, item).and_then(Attributes::part)).transpose()?;
            let event = part.as_ref().and_then(|part| part.commit.events.last());
            head.state = event.and_then(StreamState::after).ok_or_else(|| {
                StoreError::corrupt(stream, "its last commit has another event than the format says")
            })?;
        }
        head.cost = cost;
        Ok(head)
    }

    /// Erases the content of a deleted or archived stream.
    ///
    /// The claims of a commit are released before its item is erased, because the item lists them. Therefore, an
    /// interrupted call can be repeated. No other write can bring anything back: the items of all commits stay, and the
    /// transaction of an idempotency record or a claim includes a commit of the stream, or the check that it has not
    /// changed.
    pub(crate) async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        let head = self.head(stream).await?;
        head.check_erasable(stream)?;
        let (mut cost, mut from) = (head.cost, None);
        let archived = matches!(head.state, StreamState::Archived { .. }).then_some(head.version);
        loop {
            let page = self.commit_heads(stream, head.version.previous(), from.take()).await?;
            cost += page.cost;
            let (mut erased, mut claims) = (Vec::new(), Vec::new());
            for item in page.items {
                let mut attributes = Attributes::of(stream, item)?;
                let is_done = match (attributes.format()?, archived) {
                    // The content of an erased item may come back from an archive, until it is erased again.
                    (Format::Erased, None) => attributes.optional_version(names::ERASED_AT)?.is_none(),
                    (Format::Erased | Format::Lifecycle, Some(_)) => true,
                    _ => false,
                };
                if !is_done {
                    if archived.is_none() {
                        claims.extend(attributes.taken_claims()?);
                    }
                    erased.push(erased_item(stream, attributes, archived)?);
                }
            }
            cost += self.each(claims, |claim| self.release(stream, claim)).await?;
            cost += self.each(erased, |item| self.put_erased(item, archived)).await?;
            from = page.last_key;
            if from.is_none() {
                break;
            }
        }
        if archived.is_none() {
            cost += self.delete_records(stream).await?;
        }
        cost += self.fence_snapshots(stream, archived).await?;
        Ok(cost)
    }

    /// Reads a page of the items of commits up to the one that begins at `last`, without their events.
    pub(super) async fn commit_heads(
        &self,
        stream: &StreamId,
        last: Version,
        from: Option<Item>,
    ) -> Result<ItemPage, StoreError> {
        let attributes = [HEAD_ATTRIBUTES, names::TAKEN_CLAIMS, names::ERASED_AT].join(", ");
        let request = self
            .stream_query(stream, names::COMMIT_PREFIX.to_owned(), names::commit_key(last))
            .projection_expression(attributes)
            .expression_attribute_names("#at", names::TIME)
            .set_exclusive_start_key(from);
        ItemPage::of_query(self.send_query(request).await?, &self.name, stream.as_str())
    }

    /// Sends a write for each of `all`, some of them concurrently.
    pub(super) async fn each<T, F>(&self, all: Vec<T>, write: impl Fn(T) -> F) -> Result<Cost, StoreError>
    where
        F: Future<Output = Result<Cost, StoreError>>,
    {
        let writes = stream::iter(all.into_iter().map(write)).buffer_unordered(WRITES_AT_ONCE);
        writes.try_fold(Cost::ZERO, async |sum, cost| Ok(sum + cost)).await
    }

    /// Replaces the item of a commit by an erased one. For an archive, nothing is done if the item has been erased, or
    /// restored from this archive or a later one.
    async fn put_erased(&self, item: Item, archived: Option<Version>) -> Result<Cost, StoreError> {
        let bytes = item_size(&item);
        let mut request = self.put_request(item);
        if let Some(archived) = archived {
            request = request
                .condition_expression(HAS_CONTENT)
                .expression_attribute_values(":erased", AttributeValue::N(ERASED.to_owned()))
                .expression_attribute_values(":at", AttributeValue::N(archived.to_string()));
        }
        Ok(self.put(request).await?.cost("PutItem", bytes))
    }

    /// Replaces the snapshot by an item whose version keeps every snapshot from being written. For an archive, an
    /// existing one is kept: it may be that of the deleted stream.
    async fn fence_snapshots(
        &self,
        stream: &StreamId,
        archived: Option<Version>,
    ) -> Result<Cost, StoreError> {
        let mut item = key(stream.as_str(), names::SNAPSHOT_KEY);
        let highest = AttributeValue::N(Version::MAX.to_string());
        item.insert(names::SNAPSHOT_VERSION.to_owned(), highest.clone());
        let Some(archived) = archived else {
            return Ok(self.put(self.put_request(item)).await?.cost("PutItem", 0));
        };
        item.insert(names::ERASED_AT.to_owned(), AttributeValue::N(archived.to_string()));
        let bytes = item_size(&item);
        let request = self
            .put_request(item)
            .condition_expression("attribute_not_exists(v) OR v <> :highest")
            .expression_attribute_values(":highest", highest);
        Ok(self.put(request).await?.cost("PutItem", bytes))
    }

    /// Releases a claim, unless another stream holds it by now.
    async fn release(&self, stream: &StreamId, claim: Claim) -> Result<Cost, StoreError> {
        let request = self
            .delete_request(claim_key(&claim))
            .condition_expression("h = :holder")
            .expression_attribute_values(":holder", AttributeValue::S(stream.as_str().to_owned()));
        Ok(self.delete(request).await?.cost("DeleteItem", 0))
    }

    /// Deletes the records of all idempotency keys of the stream.
    async fn delete_records(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        let partition = format!("{}{stream}", names::RECORD_PREFIX);
        let (mut cost, mut from) = (Cost::ZERO, None);
        loop {
            let request = self
                .query(partition.clone(), names::RECORD_KEY, format!("{}\u{10ffff}", names::RECORD_KEY))
                .projection_expression("pk, sk")
                .set_exclusive_start_key(from.take());
            let page = ItemPage::of_query(self.send_query(request).await?, &self.name, &partition)?;
            cost += page.cost;
            let delete = async |key| Ok(self.delete(self.delete_request(key)).await?.cost("DeleteItem", 0));
            cost += self.each(page.items, delete).await?;
            from = page.last_key;
            if from.is_none() {
                return Ok(cost);
            }
        }
    }
}

/// Returns the item that remains of a commit, a part of one, or several commits. For an archive, it keeps the list of
/// claims, which are released if the stream is deleted.
fn erased_item(
    stream: &StreamId,
    mut attributes: Attributes<'_>,
    archived: Option<Version>,
) -> Result<Item, StoreError> {
    let number = |number: &dyn ToString| AttributeValue::N(number.to_string());
    let first = attributes.first_version()?;
    let last = attributes.version(names::LAST_VERSION)?;
    let id = attributes.text(names::COMMIT_ID)?;
    let time = attributes.time()?.timestamp_millis();
    let mut item = key(stream.as_str(), names::commit_key(first));
    item.insert(names::FORMAT.to_owned(), number(&ERASED));
    item.insert(names::LAST_VERSION.to_owned(), number(&last));
    item.insert(names::COMMIT_ID.to_owned(), AttributeValue::S(id));
    item.insert(names::TIME.to_owned(), number(&time));
    for name in [names::COMMIT_FIRST, names::COMMIT_LAST] {
        if let Some(version) = attributes.optional_version(name)? {
            item.insert(name.to_owned(), number(&version));
        }
    }
    if let Some(archived) = archived {
        item.insert(names::ERASED_AT.to_owned(), number(&archived));
        item.extend(
            attributes.take(names::TAKEN_CLAIMS).map(|claims| (names::TAKEN_CLAIMS.to_owned(), claims)),
        );
    }
    Ok(item)
}
