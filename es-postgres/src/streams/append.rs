//! Appending commits: one `INSERT`, and a look at the winner if its version is taken.

use es_core::store::{Append, AppendError, Appended, Conflict, Head, StreamState, limits};
use es_core::{Cost, ExpectedVersion, StoreError, StreamId, Version};
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::row::{NewRow, new_rows, only_event};
use super::{appends_at, last_of, version};
use crate::database::{Database, Failed};

const INSERT: &str = "INSERT INTO {schema}.commits (stream, first, last, id, at, bytes, metadata, events) \
     VALUES ($1, $2, $3, $4, $5, $6, $7::json, $8::json) ON CONFLICT (stream, first) DO NOTHING";

/// Inserts several commits of one append. The first row decides the race: only its winner inserts the others.
const INSERT_ALL: &str = "WITH won AS ( \
         INSERT INTO {schema}.commits (stream, first, last, until, id, at, bytes, metadata, events) \
         SELECT $1, first, last, $2, id, at, bytes, metadata::json, events::json \
         FROM unnest($3::bigint[], $4::bigint[], $5::uuid[], $6::timestamptz[], $7::integer[], $8::text[], $9::text[]) \
             AS added (first, last, id, at, bytes, metadata, events) \
         ORDER BY first LIMIT 1 ON CONFLICT (stream, first) DO NOTHING RETURNING first \
     ) \
     INSERT INTO {schema}.commits (stream, first, last, until, id, at, bytes, metadata, events) \
     SELECT $1, added.first, last, $2, id, at, bytes, metadata::json, events::json \
     FROM won, unnest($3::bigint[], $4::bigint[], $5::uuid[], $6::timestamptz[], $7::integer[], $8::text[], $9::text[]) \
         AS added (first, last, id, at, bytes, metadata, events) \
     WHERE added.first > won.first ORDER BY added.first";

/// The last commit of a stream, with its events if they may be the event of a lifecycle commit, which is small.
const HEAD: &str = "SELECT last, at, CASE WHEN bytes < 1024 THEN events::text END AS events FROM {schema}.commits \
     WHERE stream = $1 ORDER BY first DESC LIMIT 1";

impl Database {
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

    /// Appends after `version`, which has to be the end of a commit.
    ///
    /// The primary key has the version of the first event, so that two writers that start from the same version insert
    /// the same key, however many events they have.
    async fn append_at(
        &self,
        append: &Append,
        version: Version,
        spent: Cost,
    ) -> Result<Appended, AppendError> {
        let last = append.last_version_after(version)?;
        limits::check_append(append, version, self.max_bytes)?;
        let rows = new_rows(append.commits(), version)?;
        let stream = append.stream();
        let mut session = self.connect().await?;
        let insert = self.insert_statement(stream, &rows);
        let inserted = self.execute_single(session.connection(), insert).await;
        let inserted = inserted.map_err(|failed| failed.of_write(self))?;
        let cost = spent + Cost::write(0.0);
        if inserted > 0 {
            session.release();
            return Ok(Appended::new(version.next(), last, cost));
        }

        // The version is taken: by another writer, or by an earlier attempt whose response was lost.
        let found = appends_at(self, session.connection(), &[(stream, version.next())]).await;
        let found = found.map_err(|failed| failed.of_read(self))?.remove(0);
        session.release();
        match found.first() {
            Some(first) if first.id == append.id() => {
                let stored = found.iter().map(|commit| (commit.id, commit.last()));
                Ok(append.repeated(version.next(), stored, cost)?)
            }
            // Commits are never moved, so no late attempt of this append can succeed any more.
            _ => {
                let conflict = Conflict::new(stream.clone(), append.expected(), last_of(&found), cost);
                Err(conflict.with_commits(found).into())
            }
        }
    }

    /// Returns the statement that inserts the rows of one append: all, or none.
    pub(super) fn insert_statement<'q>(
        &self,
        stream: &'q StreamId,
        rows: &'q [NewRow],
    ) -> Query<'q, Postgres, PgArguments> {
        if let [row] = rows {
            let query = sqlx::query(self.single_sql(INSERT)).bind(stream.as_str());
            let query = query.bind(row.first).bind(row.last).bind(row.id).bind(row.at).bind(row.bytes());
            return query.bind(row.metadata.as_deref()).bind(&*row.events);
        }
        let until = rows.last().map(|row| row.last);
        // The statement returns the rows after the first one.
        let query = sqlx::query(self.single_sql(INSERT_ALL)).bind(stream.as_str()).bind(until);
        let query = query.bind(rows.iter().map(|row| row.first).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|row| row.last).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|row| row.id).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|row| row.at).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(NewRow::bytes).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|row| row.metadata.as_deref()).collect::<Vec<_>>());
        query.bind(rows.iter().map(|row| &*row.events).collect::<Vec<_>>())
    }

    /// Appends after a version that was not loaded. It may be beyond the end of the stream or inside a commit, which
    /// the insert alone would accept.
    async fn append_checked(&self, append: &Append, version: Version) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let head = self.head(stream).await?;
        if head.version == version {
            head.check_accepts(append)?;
            return self.append_at(append, version, Cost::read(0.0)).await;
        }
        let (mut cost, mut winner) = (Cost::read(0.0), Vec::new());
        if head.version > version {
            // An earlier attempt of this append may have succeeded.
            let mut session = self.connect().await?;
            let found = appends_at(self, session.connection(), &[(stream, version.next())]).await;
            winner = found.map_err(|failed| failed.of_read(self))?.remove(0);
            session.release();
            cost += Cost::read(0.0);
            if winner.first().is_some_and(|first| first.id == append.id()) {
                let stored = winner.iter().map(|commit| (commit.id, commit.last()));
                return Ok(append.repeated(version.next(), stored, cost)?);
            }
        }
        let conflict = Conflict::new(stream.clone(), append.expected(), Some(head.version), cost);
        Err(conflict.with_commits(winner).into())
    }

    async fn append_anywhere(&self, append: &Append) -> Result<Appended, AppendError> {
        let stream = append.stream();
        let head = || self.head(stream);
        append.at_end(head, |version, cost| self.append_at(append, version, cost), tokio::time::sleep).await
    }

    /// Returns the end of a stream.
    pub(crate) async fn head(&self, stream: &StreamId) -> Result<Head, StoreError> {
        let mut session = self.connect().await?;
        let head = self.head_on(session.connection(), stream).await;
        let head = head.map_err(|failed| failed.of_read(self))?;
        session.release();
        Ok(head)
    }

    /// Returns the end of a stream in the transaction of `connection`.
    pub(super) async fn head_on(
        &self,
        connection: &mut PgConnection,
        stream: &StreamId,
    ) -> Result<Head, Failed> {
        let query = sqlx::query(self.sql(HEAD)).bind(stream.as_str());
        let row = self.within(query.fetch_optional(connection)).await?;
        row.as_ref().map_or_else(|| Ok(Head::new(Version::NONE, Cost::read(0.0))), head_from)
    }

    /// Returns the version that the query `sql` finds for a stream, or [`Version::NONE`] if it finds none.
    pub(crate) async fn last_version(
        &self,
        sql: &'static str,
        stream: &StreamId,
    ) -> Result<Version, StoreError> {
        let mut session = self.connect().await?;
        let query = sqlx::query(self.sql(sql)).bind(stream.as_str());
        let row = self.within(query.fetch_optional(session.connection())).await;
        let row = row.map_err(|failed| failed.of_read(self))?;
        session.release();
        let last = row.map(|row| row.try_get("last")).transpose();
        let last: Option<i64> = last.map_err(|error| Failed::from(error).of_read(self))?;
        Ok(last.map_or(Version::NONE, version))
    }
}

/// Decodes a row with the last version of a stream, the time of its last commit, and possibly the events of that
/// commit.
fn head_from(row: &PgRow) -> Result<Head, Failed> {
    let events = row.try_get::<Option<&str>, _>("events")?;
    let state = events.and_then(|events| StreamState::after(&only_event(events)?)).unwrap_or_default();
    let head = Head::new(version(row.try_get("last")?), Cost::read(0.0));
    Ok(head.with_time(row.try_get("at")?).with_state(state))
}
