//! The feed's items in the table.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use es_core::feed::{Position, Slice};
use es_core::store::Read;
use es_core::{StoreError, StreamId, Version};
use futures_util::{StreamExt, TryStreamExt, future, stream};
use uuid::Uuid;

use super::TableFeed;
use super::log::index::FeedIndex;
use super::log::marks::Mark;
use super::log::page::{LogPage, damaged, page_id};
use super::log::reference::{CommitTag, Reference};
use super::log::settings::Settings;
use super::log::storage::{PageQuery, Pages, PutPage, PutPart, Storage, StoredRoot};
use super::log::summary::node::{Node, NodeId, Root};
use super::log::summary::part::{Kind, PartKey, Scope};
use super::read::Found;
use crate::table::{Consistency, Item, ItemPage, MAX_KEYS, PLACE_IS_FREE, Written, check_format, key, names};

/// The number of slices that are verified concurrently.
const SLICES_AT_ONCE: usize = 16;

/// How many requests for parts of a summary are sent concurrently.
const READS_AT_ONCE: usize = 8;

#[async_trait]
impl Storage for TableFeed {
    async fn put_page(&self, page: &LogPage) -> Result<PutPage, StoreError> {
        match self.table.put_if_absent(self.page_item(page).await?).await? {
            Written::Done(_) => Ok(PutPage::Written),
            Written::Refused(failed) => {
                failed.check(&key(names::feed_partition(page.slice), names::page_key(page.first)))?;
                let is_own = failed.item.as_ref().and_then(page_id) == Some(page.id);
                Ok(if is_own { PutPage::Written } else { PutPage::Taken })
            }
        }
    }

    async fn pages(
        &self,
        slice: Slice,
        query: PageQuery,
        limit: u32,
        consistency: Consistency,
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
        let partition = names::feed_partition(slice);
        let query = self
            .table
            .query(&partition, names::page_key(from), names::page_key(to))
            .consistent_read(consistency == Consistency::Strong)
            .scan_index_forward(upwards)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let output = self.table.send_query(query).await?;
        let ItemPage { items, last_key, cost } = ItemPage::of_query(output, &self.table.name, &partition)?;
        let decode = |mut item: Item| {
            let copies = item.remove(names::PAGE_COPIES);
            let page = LogPage::from_item(slice, &item)?.with_copies(copies);
            self.check_slices(&page).map(|()| page)
        };
        let pages = items.into_iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Pages { pages, more: last_key.is_some(), cost })
    }

    async fn splits(&self) -> Result<BTreeSet<Slice>, StoreError> {
        let (mut splits, mut after) = (BTreeSet::new(), None);
        loop {
            let (from, to) = (names::split_key(Slice::new(0)), names::split_key(Slice::new(Slice::MAX)));
            let query = self.table.query(names::FEED, from, to).set_exclusive_start_key(after);
            let output = self.table.send_query(query).await?;
            let ItemPage { items, last_key, .. } = ItemPage::of_query(output, &self.table.name, names::FEED)?;
            for item in items {
                let key = item.get(names::SORT_KEY).and_then(|value| value.as_s().ok());
                let what = || format!("the item `{}` of the feed's splits", key.map_or("", String::as_str));
                check_format(&item).map_err(|reason| StoreError::corrupt_item(what(), reason))?;
                splits.extend(key.and_then(|key| names::split_of(key)));
            }
            after = last_key;
            if after.is_none() {
                return Ok(splits);
            }
        }
    }

    async fn put_split(&self, slice: Slice) -> Result<(), StoreError> {
        let put = self.table.put_request(key(names::FEED, names::split_key(slice)));
        self.table.put(put).await.map(drop)
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

    async fn root(&self, scope: &Scope) -> Result<StoredRoot, StoreError> {
        let (item, _) = self.table.get(key(names::feed_partition(scope.slice), names::SUMMARY_KEY)).await?;
        Ok(match item {
            None => StoredRoot::None,
            Some(item) => decode_root(scope, &item).map_or(StoredRoot::Damaged, StoredRoot::Root),
        })
    }

    async fn put_root(&self, scope: &Scope, expected: Option<Uuid>, root: &Root) -> Result<bool, StoreError> {
        let put = self.table.put_request(root_item(scope, root));
        let put = match expected {
            Some(expected) => put
                .condition_expression("r = :r")
                .expression_attribute_values(":r", AttributeValue::S(expected.simple().to_string())),
            None => put.condition_expression(PLACE_IS_FREE),
        };
        let old = ReturnValuesOnConditionCheckFailure::AllOld;
        match self.table.put(put.return_values_on_condition_check_failure(old)).await? {
            Written::Done(_) => Ok(true),
            Written::Refused(failed) => {
                failed.check(&key(names::feed_partition(scope.slice), names::SUMMARY_KEY))?;
                let item = failed.item;
                let found = item.as_ref().and_then(|item| decode_root(scope, item));
                if found.is_some() || expected.is_some() || item.is_none() {
                    return Ok(found.is_some_and(|found| found.id == root.id));
                }
                // A damaged root has no id. If another writer has replaced it, that writer's jobs fail.
                let put = self.table.put_request(root_item(scope, root));
                self.table.put(put).await.map(|written| matches!(written, Written::Done(_)))
            }
        }
    }

    async fn parts(
        &self,
        slice: Slice,
        keys: &[PartKey],
        consistency: Consistency,
    ) -> Result<HashMap<PartKey, Vec<u8>>, StoreError> {
        let places: Vec<_> = keys.iter().map(|key| part_place(slice, *key)).collect();
        let batches: Vec<_> = places.chunks(MAX_KEYS).map(<[_]>::to_vec).collect();
        let reads = batches.into_iter().map(|places| async move {
            let mut found = Found::new();
            self.get_all(&places, consistency, &mut found).await.map(|_| found)
        });
        let mut reads = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        let mut items = Found::new();
        while let Some(found) = reads.try_next().await? {
            items.extend(found);
        }
        let bytes = |place| match items.remove(place)?.remove(names::PART_CONTENT)? {
            AttributeValue::B(bytes) => Some(bytes.into_inner()),
            _ => None,
        };
        let bytes = places.iter().map(bytes);
        Ok(keys.iter().zip(bytes).filter_map(|(key, bytes)| Some((*key, bytes?))).collect())
    }

    async fn put_part(
        &self,
        slice: Slice,
        at: PartKey,
        job: u64,
        bytes: Vec<u8>,
    ) -> Result<PutPart, StoreError> {
        let (partition, sort) = part_place(slice, at);
        let place = key(partition, sort);
        let mut item = place.clone();
        let number = AttributeValue::N(job.to_string());
        let content = AttributeValue::B(Blob::new(bytes));
        item.insert(names::JOB.to_owned(), number.clone());
        item.insert(names::PART_CONTENT.to_owned(), content.clone());
        let put = self
            .table
            .put_request(item)
            .condition_expression("attribute_not_exists(j) OR j < :j OR NOT attribute_type(j, :n)")
            .expression_attribute_values(":j", number)
            .expression_attribute_values(":n", AttributeValue::S("N".to_owned()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match self.table.put(put).await? {
            Written::Done(_) => Ok(PutPart::Written),
            Written::Refused(failed) => {
                failed.check(&place)?;
                let item = failed.item.unwrap_or_default();
                let found = item.get(names::JOB).and_then(|job| job.as_n().ok()?.parse().ok()).unwrap_or(job);
                let is_own = found == job && item.get(names::PART_CONTENT) == Some(&content);
                Ok(if is_own { PutPart::Written } else { PutPart::Refused(found) })
            }
        }
    }
}

/// Returns the partition key and the sort key of a part of a summary.
fn part_place(slice: Slice, key: PartKey) -> (String, String) {
    let NodeId { depth, index } = key.node;
    let prefix = match key.kind {
        Kind::Node => names::NODE_PREFIX,
        Kind::Marks => names::CHUNK_PREFIX,
        Kind::Filter => names::FILTER_PREFIX,
    };
    (names::node_partition(slice, depth, index), names::part_key(prefix, key.slot, key.index))
}

/// The key of the root among the parts of a summary, which its checksum includes.
const ROOT: PartKey = PartKey { node: NodeId::ROOT, kind: Kind::Node, slot: 0, index: 0 };

fn root_item(scope: &Scope, root: &Root) -> Item {
    let number = |number: u64| AttributeValue::N(number.to_string());
    let id = |id: Uuid| AttributeValue::S(id.simple().to_string());
    let mut item = key(names::feed_partition(scope.slice), names::SUMMARY_KEY);
    item.extend([
        (names::SUMMARY_THROUGH.to_owned(), number(root.through.get())),
        (names::PAGE_ID.to_owned(), id(root.page)),
        (names::ROOT_ID.to_owned(), id(root.id)),
        (names::JOB.to_owned(), number(root.job)),
        (
            names::PART_CONTENT.to_owned(),
            AttributeValue::B(Blob::new(scope.seal(ROOT, root.id, &root.node.encode()))),
        ),
    ]);
    if root.open {
        item.insert(names::OPEN_JOB.to_owned(), AttributeValue::Bool(true));
    }
    item
}

fn decode_root(scope: &Scope, item: &Item) -> Option<Root> {
    check_format(item).ok()?;
    let number = |name| item.get(name)?.as_n().ok()?.parse().ok();
    let id = |name| item.get(name)?.as_s().ok()?.parse().ok();
    let root_id = id(names::ROOT_ID)?;
    let sealed = item.get(names::PART_CONTENT)?.as_b().ok()?;
    let through = Position::new(number(names::SUMMARY_THROUGH)?);
    let root = Root {
        through,
        page: id(names::PAGE_ID)?,
        id: root_id,
        job: number(names::JOB)?,
        open: item.contains_key(names::OPEN_JOB),
        node: Node::decode(scope.open(ROOT, root_id, sealed.as_ref())?, scope.shape.fanout)?,
    };
    (through <= names::LAST_POSITION && root.job < u64::MAX).then_some(root)
}

impl TableFeed {
    /// Checks that a page was written with the current number of initial slices. Otherwise, streams would be searched
    /// in the wrong slices.
    fn check_slices(&self, page: &LogPage) -> Result<(), StoreError> {
        let Some(slices) = self.index.get().map(FeedIndex::slices).filter(|slices| *slices != page.slices)
        else {
            return Ok(());
        };
        let reason = format!(
            "when it was written, the number of slices with which the feed began was {}, and the settings now say {}: this \
             number cannot be changed, so restore it in the item with the key `{}`, `{}`",
            page.slices.count(),
            slices.count(),
            names::FEED,
            names::SETTINGS_KEY
        );
        Err(damaged(page.slice, page.first, reason))
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
            Written::Refused(failed) => {
                failed.check(&key(names::FEED, names::SETTINGS_KEY))?;
                failed.item
            }
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
        let tree = index.tree(self).await?;
        let ends = tree.iter().map(|slice| index.end(self, slice));
        stream::iter(ends).buffer_unordered(SLICES_AT_ONCE).try_for_each(|_| future::ready(Ok(()))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::log::summary::Shape;

    #[test]
    fn a_root_of_an_unknown_format_is_not_used() {
        let scope = Scope { slice: Slice::new(0), key: [7; 16], shape: Shape::DEFAULT };
        let root = Root {
            through: Position::new(12),
            page: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
            job: 3,
            open: false,
            node: Node::default(),
        };
        let mut item = root_item(&scope, &root);
        for (format, is_used) in [("1", true), ("7", false)] {
            item.insert(names::FORMAT.to_owned(), AttributeValue::N(format.to_owned()));
            assert_eq!(decode_root(&scope, &item).is_some(), is_used, "format {format}");
        }
    }
}
