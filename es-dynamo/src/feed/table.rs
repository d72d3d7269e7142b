//! The feed's items in the table.

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use es_core::feed::{Position, Slice};
use es_core::store::Read;
use es_core::{StoreError, StreamId, Version};
use futures_util::TryStreamExt;

use super::index::FeedIndex;
use super::marks::Mark;
use super::page::{LogPage, damaged, page_id};
use super::reference::{CommitTag, Reference};
use super::storage::{PageQuery, Pages, PutPage, Storage};
use super::summary::Manifest;
use crate::attempts::watched;
use crate::capacity;
use crate::error::translate;
use crate::item::{Attributes, Item, key};
use crate::names;
use crate::response::ItemPage;
use crate::store::Table;
use crate::transact::PLACE_IS_FREE;

#[async_trait]
impl Storage for Table {
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(page.to_item()))
            .condition_expression(PLACE_IS_FREE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match watched(put.send()).await {
            Ok(output) => capacity::of_write(output.consumed_capacity()).map(|_| PutPage::Written),
            Err(failed) => {
                let found = failed.condition(&self.name)?.item;
                let is_own = found.as_ref().and_then(page_id) == Some(page.id);
                Ok(if is_own { PutPage::Written } else { PutPage::Taken })
            }
        }
    }

    async fn pages(
        &self,
        slice: Slice,
        query: PageQuery,
        limit: u32,
        eventual: bool,
    ) -> Result<Pages, StoreError> {
        if let PageQuery::After(position) = query
            && position >= names::LAST_POSITION
        {
            return Ok(Pages::default());
        }
        let (from, to, upwards) = match query {
            PageQuery::After(position) => (position.next(), names::LAST_POSITION, true),
            PageQuery::Until(position) => (Position::NONE, position, false),
        };
        let output = self
            .feed_query(slice, names::page_key(from), names::page_key(to))
            .consistent_read(!eventual)
            .scan_index_forward(upwards)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let ItemPage { items, last_key, cost } = output.try_into()?;
        let decode = |item| {
            let page = LogPage::from_item(slice, item)?;
            self.check_slices(&page).map(|()| page)
        };
        let pages = items.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Pages { pages, more: last_key.is_some(), cost })
    }

    async fn commits(
        &self,
        stream: &StreamId,
        after: Version,
        until: Version,
        limit: usize,
    ) -> Result<Vec<Reference>, StoreError> {
        let mut pages = self.read(Read::all(stream.clone()).after(after).until(until));
        let mut commits = Vec::new();
        while let Some(page) = pages.try_next().await? {
            commits.extend(page.commits.iter().map(|commit| Reference::to(stream, commit)));
            if commits.len() >= limit {
                break;
            }
        }
        Ok(commits)
    }

    async fn commit_until(&self, stream: &StreamId, version: Version) -> Result<Option<Mark>, StoreError> {
        let output = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", AttributeValue::S(stream.to_string()))
            .expression_attribute_values(":from", AttributeValue::S(names::commit_key(Version::NONE)))
            .expression_attribute_values(":to", AttributeValue::S(names::commit_key(version)))
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(1)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| translate(&self.name, error))?;
        let Some(item) = ItemPage::try_from(output)?.items.pop() else { return Ok(None) };
        let head = Attributes::of(stream, item)?.commit_head()?;
        Ok(Some(Mark { version: head.last, tag: CommitTag::of(head.id) }))
    }

    async fn manifest(&self, slice: Slice) -> Result<Option<Manifest>, StoreError> {
        let (item, _) = self.get(key(names::feed_partition(slice), names::SUMMARY_KEY)).await?;
        Ok(item.and_then(|item| {
            let number = |name| item.get(name).and_then(|value| value.as_n().ok());
            let through = Position::new(number(names::SUMMARY_THROUGH)?.parse().ok()?);
            let chunks = number(names::COUNT)?.parse().ok()?;
            let sound = (Position::new(1)..=names::LAST_POSITION).contains(&through)
                && (1..=Manifest::MOST_CHUNKS).contains(&chunks);
            let page = page_id(&item)?;
            sound.then_some(Manifest { through, page, chunks })
        }))
    }

    async fn chunk(
        &self,
        slice: Slice,
        manifest: Manifest,
        index: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key(names::feed_partition(slice), names::chunk_key(manifest.through, index));
        let (item, _) = self.get(key).await?;
        Ok(item.and_then(|mut item| match item.remove(names::CHUNK_CONTENT) {
            Some(AttributeValue::B(bytes)) => Some(bytes.into_inner()),
            _ => None,
        }))
    }

    async fn put_chunk(
        &self,
        slice: Slice,
        manifest: Manifest,
        index: u32,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        let mut item = key(names::feed_partition(slice), names::chunk_key(manifest.through, index));
        item.insert(names::CHUNK_CONTENT.to_owned(), AttributeValue::B(Blob::new(bytes)));
        let put = self.client.put_item().table_name(&self.name).set_item(Some(item));
        let put = put.return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = watched(put.send()).await.map_err(|failed| failed.translate(&self.name))?;
        capacity::of_write(output.consumed_capacity()).map(drop)
    }

    async fn publish(&self, slice: Slice, manifest: Manifest) -> Result<(), StoreError> {
        let number = |number: u64| AttributeValue::N(number.to_string());
        let through = number(manifest.through.get());
        let mut item = key(names::feed_partition(slice), names::SUMMARY_KEY);
        item.insert(names::SUMMARY_THROUGH.to_owned(), through.clone());
        item.insert(names::PAGE_ID.to_owned(), AttributeValue::S(manifest.page.simple().to_string()));
        item.insert(names::COUNT.to_owned(), number(manifest.chunks.into()));
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(u) OR u < :u OR NOT attribute_type(u, :n)")
            .expression_attribute_values(":u", through)
            .expression_attribute_values(":n", AttributeValue::S("N".to_owned()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match watched(put.send()).await {
            Ok(output) => {
                capacity::of_write(output.consumed_capacity())?;
                self.delete_chunks_before(slice, manifest.through).await
            }
            Err(failed) => failed.condition(&self.name).map(drop),
        }
    }
}

impl Table {
    /// Checks that a page was written to a feed of as many slices as there are now: otherwise events are in others.
    fn check_slices(&self, page: &LogPage) -> Result<(), StoreError> {
        let Some(slices) = self.feed.get().map(FeedIndex::slices).filter(|slices| *slices != page.slices)
        else {
            return Ok(());
        };
        let reason = format!(
            "it was written when the feed had {} slices, and its settings have {} now: the number cannot be changed, so \
             restore it in the item `{}`, `{}`",
            page.slices.count(),
            slices.count(),
            names::FEED,
            names::SETTINGS_KEY
        );
        Err(damaged(page.slice, page.first, reason))
    }

    /// Deletes the chunks of older summaries, those that were never published, too.
    async fn delete_chunks_before(&self, slice: Slice, through: Position) -> Result<(), StoreError> {
        let mut from: Option<Item> = None;
        loop {
            let output = self
                .feed_query(slice, names::CHUNK_PREFIX.to_owned(), names::chunks_key(through))
                .projection_expression("pk, sk")
                .set_exclusive_start_key(from.take())
                .send()
                .await
                .map_err(|error| translate(&self.name, error))?;
            let page = ItemPage::try_from(output)?;
            for key in page.items {
                let delete = self.client.delete_item().table_name(&self.name).set_key(Some(key));
                let delete = delete.return_consumed_capacity(ReturnConsumedCapacity::Total);
                let deleted = watched(delete.send()).await.map_err(|failed| failed.translate(&self.name))?;
                capacity::of_write(deleted.consumed_capacity())?;
            }
            from = page.last_key;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// A Query for the items of a slice whose sort keys are from `from` to `to`, both included.
    fn feed_query(&self, slice: Slice, from: String, to: String) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", AttributeValue::S(names::feed_partition(slice)))
            .expression_attribute_values(":from", AttributeValue::S(from))
            .expression_attribute_values(":to", AttributeValue::S(to))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }
}
