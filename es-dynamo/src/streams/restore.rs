//! Restoring the content of an archived stream.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use es_core::event::EventData;
use es_core::store::{Append, AppendError, Appended, Commit, Conflict, MAX_ITEM_BYTES, NewCommit};
use es_core::{Cost, StoreError, StreamId, Version};

use super::compression::events_compressed_if_cheaper;
use super::group::group_item;
use super::item::{Attributes, CommitHead, CommitItems, Format, event_value};
use super::lifecycle::ERASED;
use super::objects::{LargePayloads, large_event_value};
use crate::table::{Item, ItemPage, PutIf, Table, Written, item_size, key, names};

/// The condition that an item was erased for the archive that is restored, or that it was not erased, or restored from
/// this archive before.
const IS_RESTORABLE: &str =
    "ea = :at OR ((attribute_not_exists(f) OR f <> :erased) AND (attribute_not_exists(ra) OR ra <= :at))";

/// The content of an item, from an archive.
enum Content {
    /// A commit, or a part of one: the events of the item, and the rest of the commit.
    Part(NewCommit, Vec<EventData>),
    Several(Vec<NewCommit>),
}

/// An existing item, which is restored.
struct Existing<'a> {
    stream: &'a StreamId,
    whole: CommitHead,
    first: Version,
    last: Version,
    /// The claims that the commit has taken.
    claims: Option<AttributeValue>,
    /// The version of the commit that recorded the archive.
    archived: Version,
}

impl Table {
    /// Brings back the content of an archived stream, and then appends `end`.
    ///
    /// The items of all commits are written, also of those that an interrupted erasure has not reached: the attribute
    /// `ra` keeps a delayed request of that erasure from having an effect.
    pub(crate) async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        let (stream, archived) = (end.stream(), end.start()?);
        let (mut cost, mut from) = (Cost::ZERO, None);
        let refused = AtomicBool::new(false);
        loop {
            let ItemPage { items, last_key, cost: read, .. } =
                self.commit_heads(stream, archived.previous(), from.take()).await?;
            cost += read;
            let put = async |item: Item| {
                let Some(existing) = Existing::of(stream, item, archived)? else { return Ok(Cost::ZERO) };
                let (cost, is_refused) = self.restore_item(&existing, commits).await?;
                refused.fetch_or(is_refused, Ordering::Relaxed);
                Ok(cost)
            };
            cost += self.each(items, put).await?;
            from = last_key;
            if from.is_none() {
                break;
            }
        }
        if refused.into_inner() {
            // The stream was deleted, or restored and archived again.
            return Err(Conflict::new(stream.clone(), end.expected(), None, cost).into());
        }
        let fence = self
            .delete_request(key(stream.as_str(), names::SNAPSHOT_KEY))
            .condition_expression("ea <= :at")
            .expression_attribute_values(":at", AttributeValue::N(archived.to_string()));
        cost += self.delete(fence).await?.cost("DeleteItem", 0);
        let mut appended = self.append(end).await?;
        appended.cost += cost;
        Ok(appended)
    }

    /// Replaces an item by one with its content. Returns the cost, and whether the condition failed.
    async fn restore_item(
        &self,
        existing: &Existing<'_>,
        commits: &[Commit],
    ) -> Result<(Cost, bool), StoreError> {
        let Existing { stream, whole, first, last, .. } = existing;
        let Some(content) = existing.content(commits) else {
            let reason = format!("the archive does not contain the commit {} at version {first}", whole.id);
            return Err(StoreError::corrupt(stream, reason));
        };
        let restored = match &content {
            Content::Several(commits) => group_item(stream, *first, commits)?,
            Content::Part(commit, events) => {
                let values = events.iter().map(event_value).collect();
                CommitItems::of(stream, whole.first, commit).item(*first, *last, values)?
            }
        };
        let mut restored = self.compress(vec![restored]).await?.remove(0);
        if item_size(&restored) > MAX_ITEM_BYTES {
            if let (Content::Part(commit, events), Some(_)) = (&content, &self.objects) {
                return Box::pin(self.restore_large(existing, commit, events)).await;
            }
            // It may have been compressed by a store with other settings.
            restored = events_compressed_if_cheaper(restored);
        }
        let restored = existing.marked(restored);
        let bytes = item_size(&restored);
        let request = self
            .put_request(restored)
            .condition_expression(IS_RESTORABLE)
            .expression_attribute_values(":erased", AttributeValue::N(ERASED.to_owned()))
            .expression_attribute_values(":at", AttributeValue::N(existing.archived.to_string()));
        let written = self.put(request).await?;
        let is_refused = matches!(written, Written::Refused(_));
        Ok((written.cost("PutItem", bytes), is_refused))
    }

    /// Replaces an item by one that refers to objects with the largest payloads.
    async fn restore_large(
        &self,
        existing: &Existing<'_>,
        commit: &NewCommit,
        events: &[EventData],
    ) -> Result<(Cost, bool), StoreError> {
        let Existing { stream, first, last, archived, .. } = existing;
        let whole = CommitItems::of(stream, existing.whole.first, commit);
        let build = |large: &LargePayloads| {
            let value = |(index, event)| match large.get(index) {
                None => event_value(event),
                Some(payload) => large_event_value(event, &payload),
            };
            let values = events.iter().enumerate().map(value).collect();
            whole.item(*first, *last, values).map(|item| existing.marked(item))
        };
        let frame = item_size(&existing.marked(whole.item(*first, *last, Vec::new())?));
        let objects = self.objects(|| format!("an event of the stream `{stream}`"))?;
        let mut large = objects.largest(events, MAX_ITEM_BYTES.saturating_sub(frame)).await?;
        let puts = |large: &LargePayloads| {
            let PutIf(put) = self.put_if(build(large)?, IS_RESTORABLE);
            let put = put
                .expression_attribute_values(":erased", AttributeValue::N(ERASED.to_owned()))
                .expression_attribute_values(":at", AttributeValue::N(archived.to_string()));
            Ok(vec![PutIf(put).build()?])
        };
        match self.transact_large(&mut large, puts).await? {
            Written::Done(cost) => Ok((cost, false)),
            Written::Refused(_) => Ok((Cost::write(0.0), true)),
        }
    }
}

impl<'a> Existing<'a> {
    /// Returns `None` for the item of a lifecycle commit, which is never erased for an archive.
    fn of(stream: &'a StreamId, item: Item, archived: Version) -> Result<Option<Self>, StoreError> {
        let claims = item.get(names::TAKEN_CLAIMS).cloned();
        let mut attributes = Attributes::of(stream, item.clone())?;
        if attributes.format()? == Format::Lifecycle {
            return Ok(None);
        }
        let (first, last) = (attributes.first_version()?, attributes.version(names::LAST_VERSION)?);
        let whole = Attributes::of(stream, item)?.head()?;
        Ok(Some(Self { stream, whole, first, last, claims, archived }))
    }

    /// Returns the content of the item, or `None` if it is not in `commits`.
    fn content(&self, commits: &[Commit]) -> Option<Content> {
        let Self { whole, first, last, .. } = self;
        let start = commits.partition_point(|commit| commit.last() < whole.first);
        let end = commits.partition_point(|commit| commit.last() <= whole.last);
        let found = commits.get(start..end)?;
        let ends = found.first().zip(found.last()).map(|(head, tail)| (head.id, head.first, tail.last()));
        if ends != Some((whole.id, whole.first, whole.last)) {
            return None;
        }
        let new = |commit: &Commit| {
            let new = NewCommit::new(commit.id, commit.time, commit.events.clone());
            new.with_metadata((*commit.metadata).clone())
        };
        Some(match found {
            [commit] => {
                let events = commit.numbered().filter(|(version, ..)| (first..=last).contains(&version));
                let events = events.map(|(.., event)| event.clone()).collect();
                Content::Part(new(commit), events)
            }
            commits => Content::Several(commits.iter().map(new).collect()),
        })
    }

    /// Adds the attributes that a restored item has in addition.
    fn marked(&self, mut item: Item) -> Item {
        item.insert(names::RESTORED_AT.to_owned(), AttributeValue::N(self.archived.to_string()));
        item.extend(self.claims.clone().map(|claims| (names::TAKEN_CLAIMS.to_owned(), claims)));
        item
    }
}
