//! The feed's items in the table.

use async_trait::async_trait;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use es_core::feed::{Position, Slice};
use es_core::store::Read;
use es_core::{StoreError, StreamId, Version};
use futures_util::{StreamExt, TryStreamExt, future, stream};

use super::TableFeed;
use super::log::index::FeedIndex;
use super::log::marks::Mark;
use super::log::page::{LogPage, damaged, page_id};
use super::log::reference::{CommitTag, Reference};
use super::log::settings::Settings;
use super::log::storage::{PageQuery, Pages, PutPage, Storage};
use super::log::summary::Manifest;
use crate::table::{ConditionFailed, Item, ItemPage, Written, check_format, key, names};

/// The number of slices that are verified concurrently.
const SLICES_AT_ONCE: usize = 16;

#[async_trait]
impl Storage for TableFeed {
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError> {
        match self.table.put_if_absent(page.to_item()).await? {
            Written::Done(_) => Ok(PutPage::Written),
            Written::Refused(ConditionFailed { item, .. }) => {
                let is_own = item.as_ref().and_then(page_id) == Some(page.id);
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
        let query = self
            .table
            .query(names::feed_partition(slice), names::page_key(from), names::page_key(to))
            .consistent_read(!eventual)
            .scan_index_forward(upwards)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let output = self.table.send_query(query).await?;
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
        let mut pages = self.table.read_items(Read::all(stream.clone()).after(after).until(until));
        let mut commits = Vec::new();
        while let Some((page, groups)) = pages.try_next().await? {
            let mut groups = groups.into_iter().peekable();
            let mut rest = 0..page.commits.len();
            while let Some(first) = rest.next() {
                let group = groups.next_if(|group| group.start == first);
                rest.start = group.map_or(rest.start, |group| group.end);
                let following = &page.commits[first + 1..rest.start];
                commits.push(Reference::to(stream, &page.commits[first], following));
            }
            if commits.len() >= limit {
                break;
            }
        }
        Ok(commits)
    }

    async fn commit_until(&self, stream: &StreamId, version: Version) -> Result<Option<Mark>, StoreError> {
        let (head, _) = self.table.last_commit(stream, version).await?;
        Ok(head.map(|head| Mark { version: head.last, tag: CommitTag::of(head.id) }))
    }

    async fn manifest(&self, slice: Slice) -> Result<Option<Manifest>, StoreError> {
        let (item, _) = self.table.get(key(names::feed_partition(slice), names::SUMMARY_KEY)).await?;
        Ok(item.filter(|item| has_known_format(slice, item)).and_then(|item| {
            let number = |name| item.get(name).and_then(|value| value.as_n().ok());
            let through = Position::new(number(names::SUMMARY_THROUGH)?.parse().ok()?);
            let chunks = number(names::COUNT)?.parse().ok()?;
            let sound = (Position::new(1)..=names::LAST_POSITION).contains(&through)
                && (1..=Manifest::MAX_CHUNKS).contains(&chunks);
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
        let (item, _) = self.table.get(key).await?;
        Ok(item.filter(|item| has_known_format(slice, item)).and_then(|mut item| {
            match item.remove(names::CHUNK_CONTENT) {
                Some(AttributeValue::B(bytes)) => Some(bytes.into_inner()),
                _ => None,
            }
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
        // The put is unconditional, so it is never refused.
        self.table.put(self.table.put_request(item)).await.map(drop)
    }

    async fn publish(&self, slice: Slice, manifest: Manifest) -> Result<(), StoreError> {
        let number = |number: u64| AttributeValue::N(number.to_string());
        let through = number(manifest.through.get());
        let mut item = key(names::feed_partition(slice), names::SUMMARY_KEY);
        item.insert(names::SUMMARY_THROUGH.to_owned(), through.clone());
        item.insert(names::PAGE_ID.to_owned(), AttributeValue::S(manifest.page.simple().to_string()));
        item.insert(names::COUNT.to_owned(), number(manifest.chunks.into()));
        let put = self
            .table
            .put_request(item)
            .condition_expression("attribute_not_exists(u) OR u < :u OR NOT attribute_type(u, :n)")
            .expression_attribute_values(":u", through)
            .expression_attribute_values(":n", AttributeValue::S("N".to_owned()));
        match self.table.put(put).await? {
            Written::Done(_) => self.delete_chunks_before(slice, manifest.through).await,
            Written::Refused(_) => Ok(()),
        }
    }
}

/// Returns whether the format of a summary's item is known. A summary is a cache, so others are not used.
fn has_known_format(slice: Slice, item: &Item) -> bool {
    let checked = check_format(item);
    if let Err(reason) = &checked {
        tracing::warn!(%slice, reason, "the summary of the feed is not used, so the whole log is read");
    }
    checked.is_ok()
}

impl TableFeed {
    /// Checks that a page was written while the feed had the current number of slices. Otherwise, streams would be searched
    /// in the wrong slices.
    fn check_slices(&self, page: &LogPage) -> Result<(), StoreError> {
        let Some(slices) = self.index.get().map(FeedIndex::slices).filter(|slices| *slices != page.slices)
        else {
            return Ok(());
        };
        let reason = format!(
            "it was written when the feed had {} slices, and the settings now say {}: the number cannot be changed, so \
             restore it in the item with the key `{}`, `{}`",
            page.slices.count(),
            slices.count(),
            names::FEED,
            names::SETTINGS_KEY
        );
        Err(damaged(page.slice, page.first, reason))
    }

    /// Deletes the chunks of older summaries, including those that were never published.
    async fn delete_chunks_before(&self, slice: Slice, through: Position) -> Result<(), StoreError> {
        let mut from: Option<Item> = None;
        loop {
            let query = self
                .table
                .query(names::feed_partition(slice), names::CHUNK_PREFIX, names::chunks_key(through))
                .projection_expression("pk, sk")
                .set_exclusive_start_key(from.take());
            let output = self.table.send_query(query).await?;
            let page = ItemPage::try_from(output)?;
            for key in page.items {
                self.table.delete(self.table.delete_request(key)).await?;
            }
            from = page.last_key;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    /// Returns the settings of the feed, if it has been created.
    pub(crate) async fn stored_settings(&self) -> Result<Option<Settings>, StoreError> {
        let (item, _) = self.table.get(key(names::FEED, names::SETTINGS_KEY)).await?;
        item.as_ref().map(Settings::from_item).transpose()
    }

    /// Creates the settings of the feed, and returns them. If another process is faster, its settings are returned.
    pub(super) async fn create_settings(&self, settings: Settings) -> Result<Settings, StoreError> {
        let found = match self.table.put_if_absent(settings.to_item()).await? {
            Written::Done(_) => return Ok(settings),
            Written::Refused(ConditionFailed { item, .. }) => item,
        };
        match found {
            Some(item) => Settings::from_item(&item),
            None => self.stored_settings().await?.ok_or_else(|| {
                StoreError::corrupt_item(
                    "the item with the settings of the feed",
                    "it was deleted during the read",
                )
            }),
        }
    }

    /// Verifies the settings of the feed, and that the newest page of each slice was written with them.
    pub(crate) async fn verify(&self) -> Result<(), StoreError> {
        if self.stored_settings().await?.is_none() {
            return Ok(());
        }
        let index = self.index().await?;
        let ends = index.slices().iter().map(|slice| index.end(self, slice));
        stream::iter(ends).buffer_unordered(SLICES_AT_ONCE).try_for_each(|_| future::ready(Ok(()))).await
    }
}
