//! The end of a stream: its last commit, which may be a lifecycle commit, and erasing its content.

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::store::{Claim, Head, StreamState};
use es_core::{Cost, StoreError, StreamId, Version};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::claims::claim_key;
use super::item::{Attributes, Format};
use super::read::HEAD_ATTRIBUTES;
use crate::table::{Item, ItemPage, Table, Written, key, names, responses};

/// The format number of a lifecycle commit.
pub(crate) const LIFECYCLE: &str = "3";

/// The format number of an item whose events were erased.
pub(crate) const ERASED: &str = "5";

/// How many items are erased concurrently.
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

    /// Erases the content of a deleted stream.
    ///
    /// The claims of a commit are released before its item is erased, because the item lists them. Therefore, an interrupted
    /// call can be repeated. No other write can bring anything back: the items of all commits stay, and the transaction of an
    /// idempotency record or a claim includes a commit of the stream, or the check that it has not changed.
    pub(crate) async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        let head = self.head(stream).await?;
        head.check_erasable(stream)?;
        let mut cost = head.cost;
        let (mut from, last) = (None, names::commit_key(head.version.previous()));
        loop {
            let request = self
                .stream_query(stream, names::COMMIT_PREFIX.to_owned(), last.clone())
                .projection_expression(format!("{HEAD_ATTRIBUTES}, {}", names::TAKEN_CLAIMS))
                .expression_attribute_names("#at", names::TIME)
                .set_exclusive_start_key(from.take());
            let page = ItemPage::try_from(self.send_query(request).await?)?;
            cost += page.cost;
            let (mut erased, mut claims) = (Vec::new(), Vec::new());
            for item in page.items {
                let mut attributes = Attributes::of(stream, item)?;
                if attributes.format()? != Format::Erased {
                    claims.extend(attributes.taken_claims()?);
                    erased.push(erased_item(stream, attributes)?);
                }
            }
            cost += self.each(claims, |claim| self.release(stream, claim)).await?;
            cost += self.each(erased, |item| self.overwrite(item)).await?;
            from = page.last_key;
            if from.is_none() {
                break;
            }
        }
        cost += self.delete_records(stream).await?;
        cost += self.overwrite(snapshot_fence(stream)).await?;
        Ok(cost)
    }

    /// Sends a write for each of `all`, some of them concurrently.
    async fn each<T, F>(&self, all: Vec<T>, write: impl Fn(T) -> F) -> Result<Cost, StoreError>
    where
        F: Future<Output = Result<Cost, StoreError>>,
    {
        let writes = stream::iter(all.into_iter().map(write)).buffer_unordered(WRITES_AT_ONCE);
        writes.try_fold(Cost::ZERO, async |sum, cost| Ok(sum + cost)).await
    }

    async fn overwrite(&self, item: Item) -> Result<Cost, StoreError> {
        match self.put(self.put_request(item)).await? {
            Written::Done(cost) => Ok(cost),
            Written::Refused(_) => Err(StoreError::Backend("a put without a condition was refused".into())),
        }
    }

    /// Releases a claim, unless another stream holds it by now.
    async fn release(&self, stream: &StreamId, claim: Claim) -> Result<Cost, StoreError> {
        let request = self
            .delete_request(claim_key(&claim))
            .condition_expression("h = :holder")
            .expression_attribute_values(":holder", AttributeValue::S(stream.as_str().to_owned()));
        match self.delete(request).await? {
            Written::Done(cost) => Ok(cost),
            Written::Refused(_) => Ok(responses::failed_write_cost("DeleteItem", 0, 0)),
        }
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
            let page = ItemPage::try_from(self.send_query(request).await?)?;
            cost += page.cost;
            let delete = async |key| match self.delete(self.delete_request(key)).await? {
                Written::Done(cost) => Ok(cost),
                Written::Refused(_) => {
                    Err(StoreError::Backend("a delete without a condition was refused".into()))
                }
            };
            cost += self.each(page.items, delete).await?;
            from = page.last_key;
            if from.is_none() {
                return Ok(cost);
            }
        }
    }
}

/// Returns the item that remains of a commit, a part of one, or several commits.
fn erased_item(stream: &StreamId, mut attributes: Attributes<'_>) -> Result<Item, StoreError> {
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
    Ok(item)
}

/// Returns the item in place of the snapshot. Its version keeps every snapshot from being written.
fn snapshot_fence(stream: &StreamId) -> Item {
    let mut item = key(stream.as_str(), names::SNAPSHOT_KEY);
    item.insert(names::SNAPSHOT_VERSION.to_owned(), AttributeValue::N(Version::MAX.to_string()));
    item
}
