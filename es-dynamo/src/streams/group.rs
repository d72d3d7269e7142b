//! Several commits in one item: format 2 of a commit's item.
//!
//! The item has the events of all commits, and for each commit the number of its events, its id, its time, and its
//! metadata.

use std::borrow::Cow;
use std::collections::HashSet;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};
use es_core::event::{CommitId, EventData};
use es_core::store::{Commit, MAX_GROUP_COMMITS, NewCommit};
use es_core::{StoreError, StreamId, Version};

use super::item::{Attributes, CommitHead, event_value, metadata_value, with_metadata};
use crate::table::{Item, names};

/// The format number of an item with several commits.
pub(crate) const SEVERAL_COMMITS: &str = "2";

/// Returns the item of several `commits`, whose events have the versions from `first` on. It fits into an item if the
/// commits are within the limits of an append.
pub(crate) fn group_item(
    stream: &StreamId,
    first: Version,
    commits: &[NewCommit],
) -> Result<Item, StoreError> {
    let number = |number: &dyn ToString| AttributeValue::N(number.to_string());
    let time = |commit: &NewCommit| number(&commit.time.timestamp_millis());
    let mut item = crate::table::key(stream.as_str(), names::commit_key(first));
    let (mut events, mut members) = (Vec::new(), Vec::with_capacity(commits.len()));
    for (index, commit) in commits.iter().enumerate() {
        events.extend(commit.events.iter().map(event_value));
        let mut member = Item::from([
            (names::MEMBER_EVENTS.to_owned(), number(&commit.events.len())),
            (names::MEMBER_TIME.to_owned(), time(commit)),
        ]);
        let id = AttributeValue::S(commit.id.to_string());
        match index {
            0 => item.insert(names::COMMIT_ID.to_owned(), id),
            _ => member.insert(names::MEMBER_ID.to_owned(), id),
        };
        if let Some(metadata) = metadata_value(commit)? {
            member.insert(names::MEMBER_METADATA.to_owned(), metadata);
        }
        // Snapshots are compared with the time of the last commit, as in an item with one commit.
        item.insert(names::TIME.to_owned(), time(commit));
        members.push(AttributeValue::M(member));
    }
    let last = first.plus(events.len() as u64).previous();
    item.extend([
        (names::FORMAT.to_owned(), number(&SEVERAL_COMMITS)),
        (names::LAST_VERSION.to_owned(), number(&last)),
        (names::EVENTS.to_owned(), AttributeValue::L(events)),
        (names::MEMBERS.to_owned(), AttributeValue::L(members)),
    ]);
    Ok(item)
}

/// The attributes of one commit of several in an item.
pub(crate) struct MemberFields<'a> {
    pub(crate) events: u64,
    /// Absent in the first commit, whose id is that of the item.
    pub(crate) id: Option<Cow<'a, str>>,
    /// In milliseconds since the start of 1970.
    pub(crate) time: i64,
    pub(crate) metadata: Option<Cow<'a, str>>,
}

/// One commit of several in an item, without its events.
pub(crate) struct Member<'a> {
    pub(crate) id: CommitId,
    pub(crate) last: Version,
    time: DateTime<Utc>,
    metadata: Option<Cow<'a, str>>,
}

/// Returns the commits of an item that contains the events of `whole` and has the attribute `at`, or the problem with
/// them.
pub(crate) fn members<'a>(
    whole: &CommitHead,
    at: i64,
    fields: Vec<MemberFields<'a>>,
) -> Result<Vec<Member<'a>>, &'static str> {
    if !(1..=MAX_GROUP_COMMITS).contains(&fields.len()) {
        return Err("it has no commits, or more than one can have");
    }
    let mut members: Vec<Member<'_>> = Vec::with_capacity(fields.len());
    let mut next = whole.first;
    for MemberFields { events, id, time, metadata } in fields {
        let id = match (id, members.is_empty()) {
            (None, true) => whole.id,
            (Some(id), false) => id.parse().map_err(|_| "the id of one of its commits is not a UUID")?,
            (Some(_), true) => return Err("the id of its first commit is stored twice"),
            (None, false) => return Err("the id of one of its commits is missing"),
        };
        if events == 0 || events > whole.last.next().since(next) {
            return Err("its commits do not have as many events as it has versions");
        }
        next = next.plus(events);
        let time = DateTime::from_timestamp_millis(time).ok_or("the time of a commit is out of range")?;
        members.push(Member { id, last: next.previous(), time, metadata });
    }
    if next != whole.last.next() {
        return Err("its commits do not have as many events as it has versions");
    }
    let is_last = |member: &Member<'_>| member.time.timestamp_millis() == at;
    if !members.is_sorted_by_key(|member| member.time) || !members.last().is_some_and(is_last) {
        return Err("the times of its commits contradict each other");
    }
    let ids: HashSet<_> = members.iter().map(|member| member.id).collect();
    if ids.len() < members.len() {
        return Err("two of its commits have the same id");
    }
    Ok(members)
}

/// Returns the commits of an item that contains `events`, the first of which has the version `first`. There are as many
/// events as the members have.
pub(crate) fn commits(
    first: Version,
    members: Vec<Member<'_>>,
    events: Vec<EventData>,
) -> Result<Vec<Commit>, &'static str> {
    let (mut next, mut events) = (first, events.into_iter());
    let commits = members.into_iter().map(|member| {
        let count = member.last.next().since(next);
        let events = events.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
        let commit = Commit::new(member.id, next, member.time, events);
        next = member.last.next();
        with_metadata(commit, member.metadata)
    });
    commits.collect()
}

impl Attributes<'_> {
    /// Returns the commits in the attribute `gc`.
    pub(crate) fn member_fields(
        &self,
        value: AttributeValue,
    ) -> Result<Vec<MemberFields<'static>>, StoreError> {
        let AttributeValue::L(list) = value else {
            return Err(self.corrupt(format!("the attribute `{}` is of another type", names::MEMBERS)));
        };
        list.into_iter().map(|value| self.member(value)).collect()
    }

    fn member(&self, value: AttributeValue) -> Result<MemberFields<'static>, StoreError> {
        let AttributeValue::M(map) = value else {
            return Err(self.corrupt("one of its commits is not a map"));
        };
        let (mut events, mut id, mut time, mut metadata) = (None, None, None, None);
        for (attribute, value) in map {
            match (attribute.as_str(), value) {
                (names::MEMBER_EVENTS, AttributeValue::N(number)) => {
                    events = Some(self.parse(names::MEMBER_EVENTS, &number)?);
                }
                (names::MEMBER_ID, AttributeValue::S(text)) => id = Some(text.into()),
                (names::MEMBER_TIME, AttributeValue::N(number)) => {
                    time = Some(self.parse(names::MEMBER_TIME, &number)?);
                }
                (names::MEMBER_METADATA, AttributeValue::S(text)) => metadata = Some(text.into()),
                (
                    names::MEMBER_EVENTS | names::MEMBER_ID | names::MEMBER_TIME | names::MEMBER_METADATA,
                    _,
                ) => {
                    let reason = format!("the attribute `{attribute}` of a commit is of another type");
                    return Err(self.corrupt(reason));
                }
                _ => {}
            }
        }
        match (events, time) {
            (Some(events), Some(time)) => Ok(MemberFields { events, id, time, metadata }),
            _ => Err(self.corrupt("one of its commits has no number of events or no time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use es_core::Metadata;
    use es_core::store::{Append, MAX_GROUP_BYTES, MAX_ITEM_BYTES};
    use es_core::{ExpectedVersion, event::EventData};
    use uuid::Uuid;

    use super::*;
    use crate::table::item_size;

    /// The overhead of commits and events is at most what `NewCommit::bytes` assumes.
    #[test]
    fn every_append_of_several_commits_fits_into_an_item() {
        let stream = StreamId::new(&"a".repeat(100), "i".repeat(512)).expect("valid");
        let time = DateTime::from_timestamp_millis(253_402_300_799_999).expect("in range");
        let small = EventData::new("n", u32::MAX, "");
        let large = EventData::new("n", u32::MAX, "x".repeat(2_900));
        let metadata = Metadata::new().with_actor("u".repeat(2_900));
        let groups = [
            (2, 8_500, &small, Metadata::new()),
            (100, 170, &small, Metadata::new()),
            (100, 1, &large, Metadata::new()),
            (100, 1, &small, metadata),
        ];
        for (count, events, event, metadata) in groups {
            let commits: Vec<_> = (0..count)
                .map(|number| {
                    let id = CommitId::new(Uuid::from_u128(number as u128));
                    NewCommit::new(id, time, vec![event.clone(); events]).with_metadata(metadata.clone())
                })
                .collect();
            let estimate: u64 = commits.iter().map(NewCommit::bytes).sum();
            assert!(estimate > MAX_GROUP_BYTES * 9 / 10, "{estimate} is not close to the limit");
            let append = Append::new(stream.clone(), ExpectedVersion::NoStream, commits[0].clone());
            append
                .with_following(commits[1..].iter().cloned())
                .last_version_after(Version::NONE)
                .expect("fits");
            let item = group_item(&stream, Version::new(999_999_900_000), &commits).expect("is valid");
            let bytes = item_size(&item);
            assert!(
                bytes <= estimate + 1_000 && bytes < MAX_ITEM_BYTES,
                "{bytes} bytes, estimated {estimate}"
            );
        }
    }
}
