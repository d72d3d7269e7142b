//! Copying one stream.

use std::cmp::max;

use chrono::{DateTime, SubsecRound, Utc};
use es_core::store::{Append, AppendError, Commit, NewCommit, Read};
use es_core::{CommitId, EventData, EventStore, StoreError, StreamId, Version};
use futures_util::TryStreamExt;
use uuid::Uuid;

use super::Cause;
use super::foreign::ForeignEvent;

/// How many events a commit has at most.
const MOST_EVENTS: usize = 25;

/// Copies the events of one stream, which are all that there are; says how many were new.
pub(super) async fn copy(target: &dyn EventStore, rows: &[ForeignEvent]) -> Result<u64, StoreError> {
    let Some(first) = rows.first() else { return Ok(0) };
    let stream = first.stream().map_err(StoreError::Backend)?;
    if let Some(row) = rows.iter().find(|row| (&row.aggregate, &row.id) != (&first.aggregate, &first.id)) {
        return Err(invalid(&stream, format!("event {} is of `{}#{}`", row.number, row.aggregate, row.id)));
    }

    let (mut end, mut time) = compared(target, &stream, rows).await?;
    let start = end;
    while let Some(row) = rows.get(end.get() as usize) {
        let rest = rows[end.get() as usize..].iter().take(MOST_EVENTS);
        let together = rest.take_while(|other| (other.time, &other.metadata) == (row.time, &row.metadata));
        let events: Result<Vec<EventData>, Cause> = together.map(ForeignEvent::data).collect();
        time = max(time, row.time.unwrap_or_default().trunc_subsecs(3));
        let commit = NewCommit::new(id_of(&stream, end.next()), time, events.map_err(StoreError::Backend)?)
            .with_metadata(row.metadata.clone());
        let append = Append::after_loaded(stream.clone(), end, commit);
        end = target.append(&append).await.map_err(failed)?.last;
    }
    Ok(end.get() - start.get())
}

/// Compares what the target has with the rows; tells where it ends, and when that was.
async fn compared(
    target: &dyn EventStore,
    stream: &StreamId,
    rows: &[ForeignEvent],
) -> Result<(Version, DateTime<Utc>), StoreError> {
    let (mut end, mut time) = (Version::NONE, DateTime::<Utc>::MIN_UTC);
    let mut pages = target.read(Read::all(stream.clone()));
    while let Some(page) = pages.try_next().await? {
        for commit in &page.commits {
            compare(stream, commit, rows)?;
            (end, time) = (commit.last(), commit.time);
        }
    }
    Ok((end, time))
}

fn compare(stream: &StreamId, commit: &Commit, rows: &[ForeignEvent]) -> Result<(), StoreError> {
    for (version, _, event) in commit.numbered() {
        let Some(row) = rows.get(version.get() as usize - 1) else {
            return Err(invalid(
                stream,
                format!("the target has an event {version}, and the table has none"),
            ));
        };
        if row.data().map_err(StoreError::Backend)? != *event {
            return Err(invalid(stream, format!("the target has another event {version} than the table")));
        }
    }
    Ok(())
}

/// Returns an id that is always the same for the same place.
fn id_of(stream: &StreamId, first: Version) -> CommitId {
    CommitId::new(Uuid::new_v5(&COMMITS, format!("{stream}/{first}").as_bytes()))
}

/// The namespace of the ids of copied commits.
const COMMITS: Uuid = Uuid::from_u128(0x5b0c_8a52_3f9e_4d61_a7c4_19e2_6d80_f3b5);

fn invalid(stream: &StreamId, reason: String) -> StoreError {
    StoreError::invalid(format!("the copy of `{stream}`: {reason}"))
}

fn failed(error: AppendError) -> StoreError {
    match error {
        AppendError::Store(error) => error,
        other => StoreError::Backend(Box::new(other)),
    }
}
