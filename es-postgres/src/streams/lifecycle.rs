//! Erasing the content of a deleted or archived stream, and restoring it.

use es_core::store::{
    Append, AppendError, Appended, Commit, Conflict, NewCommit, StreamState, erased_event, limits,
};
use es_core::{Cost, StoreError, StreamId, Version};
use sqlx::postgres::PgConnection;

use super::row::{NewRow, encode_events, new_rows, number};
use super::{appends_at, last_of};
use crate::database::{Database, Failed};

/// Makes other transactions that erase or restore the stream wait.
const LOCK_STREAM: &str =
    "SELECT first FROM {schema}.commits WHERE stream = $1 ORDER BY first LIMIT 1 FOR UPDATE";

/// How many versions of a stream a statement erases, so that it ends in time whatever the length of the stream.
const ERASED_VERSIONS: u64 = 10_000;

/// The limits of a statement that restores commits.
const RESTORED_COMMITS: usize = 1_000;
const RESTORED_BYTES: u64 = 4 * 1024 * 1024;

/// Replaces each event of the commits in a range of versions. For an archive, commits of the framework are kept. The
/// events are compared as text: the functions on json reject documents with texts such as `\u0000`.
const ERASE_COMMITS: &str = "UPDATE {schema}.commits SET metadata = NULL, bytes = 0, \
         events = ('[' || repeat($4 || ',', (last - first)::integer) || $4 || ']')::json \
     WHERE stream = $1 AND first > $2 AND first <= $3 AND ($5 OR NOT starts_with(events::text, '[{\"t\":\"$'))";

const RESTORE_COMMITS: &str = "UPDATE {schema}.commits AS stored \
     SET bytes = kept.bytes, metadata = kept.metadata::json, events = kept.events::json \
     FROM unnest($2::bigint[], $3::bigint[], $4::uuid[], $5::integer[], $6::text[], $7::text[]) \
         AS kept (first, last, id, bytes, metadata, events) \
     WHERE stored.stream = $1 AND stored.first = kept.first AND stored.last = kept.last AND stored.id = kept.id";

/// Removes the row in place of a snapshot.
const DELETE_FENCE: &str = "DELETE FROM {schema}.snapshots WHERE stream = $1 AND version = $2";

const DELETE_CLAIMS: &str = "DELETE FROM {schema}.claims WHERE stream = $1";

const DELETE_RECORDS: &str = "DELETE FROM {schema}.idempotency WHERE stream = $1";

/// Replaces the snapshot by one whose version keeps every other from being written.
const FENCE_SNAPSHOTS: &str = "INSERT INTO {schema}.snapshots (stream, version, at, fingerprint, checksum, state) \
     VALUES ($1, $2, '1970-01-01Z', 0, -1, '') ON CONFLICT (stream) DO UPDATE SET version = excluded.version, \
         at = excluded.at, fingerprint = excluded.fingerprint, checksum = excluded.checksum, state = excluded.state";

impl Database {
    /// Erases the content of a deleted or archived stream in one transaction.
    pub(crate) async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        let mut session = self.connect().await?;
        let begun = self.within(session.begin()).await;
        let mut transaction = begun.map_err(|failed| failed.of_read(self))?;
        let erased = self.erase_before_end(&mut transaction, stream).await;
        erased.map_err(|failed| failed.of_read(self))?;
        self.within(transaction.commit()).await.map_err(|failed| failed.of_write(self))?;
        session.release();
        Ok(Cost::write(0.0))
    }

    async fn erase_before_end(&self, connection: &mut PgConnection, stream: &StreamId) -> Result<(), Failed> {
        self.lock_stream(connection, stream).await?;
        // Read after the stream was locked: it may have been restored until then.
        let head = self.head_on(connection, stream).await?;
        head.check_erasable(stream)?;
        let is_deleted = head.state == StreamState::Deleted;
        let events = encode_events(&[erased_event()])?;
        let event = events.trim_start_matches('[').trim_end_matches(']');
        let (mut erased, end) = (Version::NONE, head.version.previous());
        while erased < end {
            let until = end.min(erased.plus(ERASED_VERSIONS));
            let query = sqlx::query(self.sql(ERASE_COMMITS)).bind(stream.as_str());
            let query = query.bind(number(erased)).bind(number(until)).bind(event).bind(is_deleted);
            self.within(query.execute(&mut *connection)).await?;
            erased = until;
        }
        if is_deleted {
            for sql in [DELETE_CLAIMS, DELETE_RECORDS] {
                let query = sqlx::query(self.sql(sql)).bind(stream.as_str());
                self.within(query.execute(&mut *connection)).await?;
            }
        }
        let query = sqlx::query(self.sql(FENCE_SNAPSHOTS)).bind(stream.as_str()).bind(number(Version::MAX));
        self.within(query.execute(connection)).await?;
        Ok(())
    }

    async fn lock_stream(&self, connection: &mut PgConnection, stream: &StreamId) -> Result<(), Failed> {
        let query = sqlx::query(self.sql(LOCK_STREAM)).bind(stream.as_str());
        self.within(query.fetch_optional(connection)).await?;
        Ok(())
    }

    /// Brings back the content of an archived stream and appends `end`, in one transaction.
    pub(crate) async fn restore(&self, commits: &[Commit], end: &Append) -> Result<Appended, AppendError> {
        let (stream, version) = (end.stream(), end.start()?);
        let last = end.last_version_after(version)?;
        limits::check_append(end, version, self.max_bytes)?;
        let rows = new_rows(end.commits(), version)?;
        let kept = commits.iter().map(|commit| {
            let new = NewCommit::new(commit.id, commit.time, commit.events.clone());
            NewRow::new(&new.with_metadata((*commit.metadata).clone()), commit.first)
        });
        let kept = kept.collect::<Result<Vec<_>, _>>()?;
        let mut session = self.connect().await?;
        let begun = self.within(session.begin()).await;
        let mut transaction = begun.map_err(|failed| failed.of_read(self))?;
        let insert = self.insert_statement(stream, &rows);
        let inserted = self.within(insert.execute(&mut *transaction)).await;
        let inserted = inserted.map_err(|failed| failed.of_read(self))?;
        if inserted.rows_affected() == 0 {
            let back = self.within(transaction.rollback()).await;
            back.map_err(|failed| failed.of_read(self))?;
            let found = appends_at(self, session.connection(), &[(stream, version.next())]).await;
            let found = found.map_err(|failed| failed.of_read(self))?.remove(0);
            session.release();
            if found.first().is_some_and(|first| first.id == end.id()) {
                let stored = found.iter().map(|commit| (commit.id, commit.last()));
                return Ok(end.repeated(version.next(), stored, Cost::write(0.0))?);
            }
            let conflict = Conflict::new(stream.clone(), end.expected(), last_of(&found), Cost::write(0.0));
            return Err(conflict.with_commits(found).into());
        }
        let restored = self.fill_in(&mut transaction, stream, &kept).await;
        restored.map_err(|failed| failed.of_read(self))?;
        self.within(transaction.commit()).await.map_err(|failed| failed.of_write(self))?;
        session.release();
        Ok(Appended::new(version.next(), last, Cost::write(0.0)))
    }

    /// Replaces the content of the commits of a stream.
    async fn fill_in(
        &self,
        connection: &mut PgConnection,
        stream: &StreamId,
        kept: &[NewRow],
    ) -> Result<(), Failed> {
        self.lock_stream(connection, stream).await?;
        let mut rest = kept;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(batch_of(rest));
            let query = sqlx::query(self.sql(RESTORE_COMMITS)).bind(stream.as_str());
            let query = query.bind(batch.iter().map(|row| row.first).collect::<Vec<_>>());
            let query = query.bind(batch.iter().map(|row| row.last).collect::<Vec<_>>());
            let query = query.bind(batch.iter().map(|row| row.id).collect::<Vec<_>>());
            let query = query.bind(batch.iter().map(NewRow::bytes).collect::<Vec<_>>());
            let query = query.bind(batch.iter().map(|row| row.metadata.as_deref()).collect::<Vec<_>>());
            let query = query.bind(batch.iter().map(|row| &*row.events).collect::<Vec<_>>());
            let restored = self.within(query.execute(&mut *connection)).await?.rows_affected();
            if restored != batch.len() as u64 {
                let reason = "its commits do not match those in the archive";
                return Err(StoreError::corrupt(stream, reason).into());
            }
            rest = after;
        }
        let query = sqlx::query(self.sql(DELETE_FENCE)).bind(stream.as_str()).bind(number(Version::MAX));
        self.within(query.execute(connection)).await?;
        Ok(())
    }
}

/// Returns how many of the rows one statement restores: at least one.
fn batch_of(rows: &[NewRow]) -> usize {
    let mut bytes = 0;
    let fitting = rows.iter().take(RESTORED_COMMITS).take_while(|row| {
        bytes += u64::from(row.bytes().unsigned_abs());
        bytes <= RESTORED_BYTES
    });
    fitting.count().max(1)
}
