//! Appending: one conditional `PutItem`; for a commit too large for one item, one transaction.

use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use es_core::store::{Append, AppendError, Appended, Conflict};
use es_core::{Cost, ExpectedVersion, StoreError, StreamId, Version};

use crate::capacity;
use crate::error::translate;
use crate::item::{Attributes, CommitHead, Item, commit_items, item_size};
use crate::names;
use crate::store::Table;

/// That there is no item with the key yet.
const PLACE_IS_FREE: &str = "attribute_not_exists(pk)";

/// How often an append that expects no version is tried again when another one takes its place.
const MOST_PLACES: u32 = 100;

impl Table {
    pub(crate) async fn append(&self, append: &Append) -> Result<Appended, AppendError> {
        append.last_version_after(Version::NONE)?;
        match append.expected() {
            ExpectedVersion::NoStream => self.append_at(append, Version::NONE, Cost::ZERO).await,
            ExpectedVersion::Exact(version) if append.is_loaded() || version.is_none() => {
                self.append_at(append, version, Cost::ZERO).await
            }
            ExpectedVersion::Exact(version) => self.append_checked(append, version).await,
            ExpectedVersion::Any | ExpectedVersion::StreamExists => self.append_anywhere(append).await,
        }
    }

    /// Appends after `version`, which is the end of a commit: the condition alone decides.
    ///
    /// The sort key is the version of the first event, so that two writers who start from the same version
    /// want the same key, however many events they have.
    async fn append_at(
        &self,
        append: &Append,
        version: Version,
        spent: Cost,
    ) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let (first, last) = (version.next(), append.last_version_after(version)?);
        let mut items = commit_items(stream, first, append.commit())?;
        // In a transaction everything is written, and billed, twice.
        let times = if items.len() > 1 { 2 } else { 1 };
        let bytes = items.iter().map(item_size).sum();
        let outcome = match items.len() {
            1 => self.put(items.remove(0)).await?,
            _ => self.put_all(items).await?,
        };
        let old = match outcome {
            Put::Stored(cost) => return Ok(Appended::new(first, last, spent + cost)),
            Put::Taken(old) => old,
        };

        // Someone has stored a commit there: another writer, or an attempt of this one whose answer was lost.
        let there = old.as_ref().map_or(0, item_size);
        let mut cost = spent + capacity::of_failed_write(bytes, there, times);
        let old = match old {
            Some(item) => Some(head_of(stream, item)?),
            None => {
                let (found, read) = self.commit_at(stream, first).await?;
                cost += read;
                found
            }
        };
        match old {
            Some(old) if old.id == append.commit().id => self.repeated(stream, old, last, cost),
            old => {
                let actual = old.map(|old| old.last);
                Err(Conflict::new(stream.clone(), append.expected(), actual, cost).into())
            }
        }
    }

    /// Writes one item on the condition that its place is free.
    async fn put(&self, item: Item) -> Result<Put, StoreError> {
        let result = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression(PLACE_IS_FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match result {
            Ok(output) => Ok(Put::Stored(capacity::of_write(output.consumed_capacity()))),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                match error.into_err() {
                    PutItemError::ConditionalCheckFailedException(failed) => Ok(Put::Taken(failed.item)),
                    other => Err(StoreError::Backend(other.into())),
                }
            }
            Err(error) => Err(translate(&self.name, error)),
        }
    }

    /// Writes the parts of a commit in one transaction, on the condition that all their places are free.
    ///
    /// The SDK gives each call a token of its own, by which its retries are recognised; a later call finds
    /// the commit by its id, as with one item.
    async fn put_all(&self, items: Vec<Item>) -> Result<Put, StoreError> {
        let puts = items
            .into_iter()
            .map(|item| {
                let put = aws_sdk_dynamodb::types::Put::builder()
                    .table_name(&self.name)
                    .set_item(Some(item))
                    .condition_expression(PLACE_IS_FREE)
                    .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                    .build()?;
                Ok(TransactWriteItem::builder().put(put).build())
            })
            .collect::<Result<Vec<_>, BuildError>>()
            .map_err(|error| StoreError::Backend(error.into()))?;
        let result = self
            .client
            .transact_write_items()
            .set_transact_items(Some(puts))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        match result {
            Ok(output) => Ok(Put::Stored(capacity::of_transaction(output.consumed_capacity()))),
            Err(SdkError::ServiceError(error)) if error.err().is_transaction_canceled_exception() => {
                canceled(error.into_err())
            }
            Err(error) => Err(translate(&self.name, error)),
        }
    }

    /// Appends after a version that the caller has from somewhere: it may be beyond the stream's end, or
    /// inside a commit, which the condition alone would accept.
    async fn append_checked(&self, append: &Append, version: Version) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let head = self.head(stream).await?;
        if head.version == version {
            return self.append_at(append, version, head.cost).await;
        }
        let mut cost = head.cost;
        if head.version > version {
            // Perhaps because this very commit is stored there already.
            let (found, read) = self.commit_at(stream, version.next()).await?;
            cost += read;
            if let Some(found) = found.filter(|found| found.id == append.commit().id) {
                let last = append.last_version_after(version)?;
                return self.repeated(stream, found, last, cost);
            }
        }
        Err(Conflict::new(stream.clone(), append.expected(), Some(head.version), cost).into())
    }

    /// Appends at the end, wherever that is.
    ///
    /// All attempts of one `Append` want the same place, also those of which nobody knows what became, until
    /// it is known that another commit stands there.
    async fn append_anywhere(&self, append: &Append) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let mut cost = Cost::ZERO;
        let mut place = append.tried_at();
        let mut lost = None;
        for places in 1.. {
            let first = match place.take() {
                Some(first) => first,
                None => {
                    let head = self.head(stream).await?;
                    cost += head.cost;
                    if !append.expected().allows(head.version) {
                        let expected = append.expected();
                        return Err(Conflict::new(stream.clone(), expected, Some(head.version), cost).into());
                    }
                    append.try_at(lost, head.version.next())
                }
            };
            match self.append_at(append, first.previous(), cost).await {
                Err(AppendError::Conflict(conflict)) if places < MOST_PLACES => {
                    cost = conflict.cost;
                    lost = Some(first);
                    // Perhaps another attempt has gone on to the next place already.
                    place = append.tried_at().filter(|tried| *tried != first);
                    let longest = Duration::from_millis(u64::from(places.min(50)));
                    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
                }
                other => return other,
            }
        }
        unreachable!("the last place ends the loop")
    }

    fn repeated(
        &self,
        stream: &StreamId,
        found: CommitHead,
        last: Version,
        cost: Cost,
    ) -> Result<Appended, AppendError> {
        if found.last != last {
            return Err(StoreError::corrupt(
                stream,
                format!("the commit {} is stored with other events than it was appended with", found.id),
            )
            .into());
        }
        Ok(Appended::new(found.first, found.last, cost).repeated())
    }

    /// The commit whose first event has the version `first`.
    async fn commit_at(
        &self,
        stream: &StreamId,
        first: Version,
    ) -> Result<(Option<CommitHead>, Cost), StoreError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.name)
            .key(names::PARTITION_KEY, text(stream.as_str()))
            .key(names::SORT_KEY, text(names::commit_key(first)))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let cost = capacity::of_read(output.consumed_capacity());
        let head = output.item.map(|item| head_of(stream, item)).transpose()?;
        Ok((head, cost))
    }
}

/// What became of a write on the condition that its place is free.
enum Put {
    Stored(Cost),
    /// The place is taken, by this item if it is known.
    Taken(Option<Item>),
}

/// A transaction is cancelled for one reason for each of its items: a place that is taken is a conflict, and
/// everything else is not.
fn canceled(error: TransactWriteItemsError) -> Result<Put, StoreError> {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = error else {
        return Err(StoreError::Backend(error.into()));
    };
    let reasons = canceled.cancellation_reasons.unwrap_or_default();
    let mut others = Vec::new();
    for reason in reasons {
        match reason.code.as_deref() {
            Some("ConditionalCheckFailed") => return Ok(Put::Taken(reason.item)),
            Some("None") | None => {}
            Some(code) => others.push(code.to_owned()),
        }
    }
    let cause = format!("the transaction was cancelled: {}", others.join(", ")).into();
    let passing = ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"];
    Err(match others.iter().all(|code| passing.contains(&code.as_str())) && !others.is_empty() {
        true => StoreError::Throttled(cause),
        false => StoreError::Backend(cause),
    })
}

fn head_of(stream: &StreamId, item: Item) -> Result<CommitHead, StoreError> {
    Attributes::of(stream, item)?.commit_head()
}

fn text(text: impl Into<String>) -> aws_sdk_dynamodb::types::AttributeValue {
    aws_sdk_dynamodb::types::AttributeValue::S(text.into())
}
