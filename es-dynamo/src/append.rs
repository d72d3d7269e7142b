//! Appending: one conditional `PutItem`.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use es_core::store::{Append, AppendError, Appended, Conflict};
use es_core::{Cost, ExpectedVersion, StoreError, StreamId, Version};

use crate::capacity;
use crate::error::translate;
use crate::item::{Attributes, CommitHead, Item, SIZE_LIMIT, commit_item, item_size};
use crate::names;
use crate::store::Table;

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
        let item = commit_item(stream, first, last, append.commit())?;
        let bytes = item_size(&item);
        if bytes > SIZE_LIMIT {
            let what =
                format!("a commit of {} events for the stream `{stream}`", append.commit().events.len());
            return Err(StoreError::too_large(what, bytes, SIZE_LIMIT).into());
        }
        let result = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await;
        let old = match result {
            Ok(output) => {
                let cost = spent + capacity::of_write(output.consumed_capacity());
                return Ok(Appended::new(first, last, cost));
            }
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                match error.into_err() {
                    PutItemError::ConditionalCheckFailedException(failed) => failed.item,
                    other => return Err(StoreError::Backend(other.into()).into()),
                }
            }
            Err(error) => return Err(translate(&self.name, error).into()),
        };

        // Someone has stored a commit there: another writer, or an attempt of this one whose answer was lost.
        let mut cost = spent + capacity::of_failed_write(bytes);
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
    async fn append_anywhere(&self, append: &Append) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let mut cost = Cost::ZERO;
        let mut places = 0;
        loop {
            let head = self.head(stream).await?;
            cost += head.cost;
            // The place of the attempt before, whose answer may have been lost. There is at most one: until
            // it is known whose commit stands there, no other place is tried.
            if let Some(tried) = append.tried_at().filter(|tried| *tried <= head.version) {
                let (found, read) = self.commit_at(stream, tried).await?;
                cost += read;
                if let Some(found) = found.filter(|found| found.id == append.commit().id) {
                    let last = append.last_version_after(tried.previous())?;
                    return self.repeated(stream, found, last, cost);
                }
                append.forget_tried();
            }
            if !append.expected().allows(head.version) {
                return Err(Conflict::new(stream.clone(), append.expected(), Some(head.version), cost).into());
            }
            append.try_at(head.version.next());
            match self.append_at(append, head.version, cost).await {
                Err(AppendError::Conflict(conflict)) if places < MOST_PLACES => {
                    append.forget_tried();
                    cost = conflict.cost;
                    places += 1;
                    let longest = Duration::from_millis(u64::from(places.min(50)));
                    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
                }
                other => return other,
            }
        }
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

fn head_of(stream: &StreamId, item: Item) -> Result<CommitHead, StoreError> {
    Attributes::of(stream, item)?.commit_head()
}

fn text(text: impl Into<String>) -> aws_sdk_dynamodb::types::AttributeValue {
    aws_sdk_dynamodb::types::AttributeValue::S(text.into())
}
