//! Writing a set: commits, claims, an idempotency record, and additional writes in one transaction.
//!
//! Every check is an insert that must succeed, which also makes concurrent transactions wait for this one. All
//! transactions insert in the same order, so they never wait for each other in a circle.

use chrono::DateTime;
use es_core::store::{
    Append, ClaimChange, Claimed, Conflict, NetChange, WriteError, WriteRefused, WriteSet, Written, limits,
};
use es_core::{Cost, ExpectedVersion, StoreError, StreamId, Version};
use sqlx::PgConnection;
use uuid::Uuid;

use super::row::{NewRow, new_rows, number};
use super::{appends_at, claims, last_of};
use crate::database::{Database, Failed};
use crate::statement;

const INSERT: &str = "INSERT INTO {schema}.commits (stream, first, last, id, at, bytes, metadata, events) \
     SELECT stream, first, last, id, at, bytes, metadata::json, events::json FROM unnest($1::text[], $2::bigint[], \
         $3::bigint[], $4::uuid[], $5::timestamptz[], $6::integer[], $7::text[], $8::text[]) \
         AS added (stream, first, last, id, at, bytes, metadata, events) \
     ORDER BY stream COLLATE \"C\", first ON CONFLICT (stream, first) DO NOTHING";

/// Removes the rows that check that streams have not changed.
const DELETE_CHECKS: &str = "DELETE FROM {schema}.commits AS checked \
     USING unnest($1::text[], $2::bigint[]) AS stale (stream, first) \
     WHERE checked.stream = stale.stream AND checked.first = stale.first";

/// Inserts claims, or keeps those that already belong to the stream that may hold them.
const INSERT_CLAIMS: &str = "INSERT INTO {schema}.claims AS stored (name, value, stream) \
     SELECT name, value, stream FROM unnest($1::text[], $2::text[], $3::text[]) AS added (name, value, stream) \
     ORDER BY name COLLATE \"C\", value COLLATE \"C\" \
     ON CONFLICT (name, value) DO UPDATE SET stream = excluded.stream WHERE stored.stream = excluded.stream";

const MOVE_CLAIMS: &str = "UPDATE {schema}.claims AS stored SET stream = moved.stream \
     FROM unnest($1::text[], $2::text[], $3::text[]) AS moved (name, value, stream) \
     WHERE stored.name = moved.name AND stored.value = moved.value";

const DELETE_CLAIMS: &str = "DELETE FROM {schema}.claims AS stored \
     USING unnest($1::text[], $2::text[]) AS released (name, value) \
     WHERE stored.name = released.name AND stored.value = released.value";

/// The result of a transaction.
enum Attempt {
    Committed,
    /// An insert did not succeed.
    Raced,
    /// The condition of an additional write failed.
    Refused(usize),
}

impl Database {
    pub(crate) async fn write_set(&self, set: &WriteSet) -> Result<Written, WriteError> {
        let written = set.checked()?.at_cost(Cost::write(0.0));
        limits::check_set(set, self.max_bytes)?;
        set.additional_writes().iter().try_for_each(statement::check_kind)?;
        let net = ClaimChange::net(set.claim_changes())?;
        let mut session = self.connect().await?;
        let attempt = self.transact(&mut session, set, &net).await?;
        let result = match attempt {
            Attempt::Committed => Ok(written),
            Attempt::Refused(index) => Err(WriteRefused::new(index).into()),
            Attempt::Raced => {
                let resolved = self.resolve_raced(session.connection(), set, &net, written).await;
                resolved.map_err(|failed| failed.of_read(self))?
            }
        };
        session.release();
        result
    }

    /// Runs the transaction, and rolls it back unless all of it succeeds.
    async fn transact(
        &self,
        session: &mut crate::database::Session,
        set: &WriteSet,
        net: &[NetChange<'_>],
    ) -> Result<Attempt, StoreError> {
        let begun = self.within(session.begin()).await;
        let mut transaction = begun.map_err(|failed| failed.of_read(self))?;
        let attempt = self.fill(&mut transaction, set, net).await;
        let attempt = attempt.map_err(|failed| failed.of_read(self))?;
        match attempt {
            Attempt::Committed => {
                let committed = self.within(transaction.commit()).await;
                committed.map_err(|failed| failed.of_write(self))?;
            }
            Attempt::Raced | Attempt::Refused(_) => {
                let back = self.within(transaction.rollback()).await;
                back.map_err(|failed| failed.of_read(self))?;
            }
        }
        Ok(attempt)
    }

    /// Sends everything but the `COMMIT`, which the result says whether to send.
    async fn fill(
        &self,
        connection: &mut PgConnection,
        set: &WriteSet,
        net: &[NetChange<'_>],
    ) -> Result<Attempt, Failed> {
        if let Some(record) = set.idempotency() {
            let inserted = self.within(self.insert_record(record)?.execute(&mut *connection)).await?;
            if inserted.rows_affected() == 0 {
                return Ok(Attempt::Raced);
            }
        }
        if !self.insert_commits(connection, set).await? || !self.change_claims(connection, net).await? {
            return Ok(Attempt::Raced);
        }
        for (index, write) in set.additional_writes().iter().enumerate() {
            if !statement::execute(self, connection, write).await? {
                return Ok(Attempt::Refused(index));
            }
        }
        Ok(Attempt::Committed)
    }

    /// Inserts the commits, and checks that other streams have not changed. Returns whether all versions were free.
    async fn insert_commits(&self, connection: &mut PgConnection, set: &WriteSet) -> Result<bool, Failed> {
        let mut rows = Vec::new();
        for append in set.appends() {
            let commits = new_rows(append.commits(), append.start()?)?;
            rows.extend(commits.into_iter().map(|row| (append.stream(), row)));
        }
        rows.extend(set.unchanged_streams().iter().map(|(stream, version)| (stream, check_row(*version))));
        if rows.is_empty() {
            return Ok(true);
        }
        let query = sqlx::query(self.sql(INSERT));
        let query = query.bind(rows.iter().map(|(stream, _)| stream.as_str()).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|(_, row)| row.first).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|(_, row)| row.last).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|(_, row)| row.id).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|(_, row)| row.at).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|(_, row)| row.bytes()).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|(_, row)| row.metadata.as_deref()).collect::<Vec<_>>());
        let query = query.bind(rows.iter().map(|(_, row)| &*row.events).collect::<Vec<_>>());
        let inserted = self.within(query.execute(&mut *connection)).await?;
        if inserted.rows_affected() < rows.len() as u64 {
            return Ok(false);
        }
        let (streams, firsts): (Vec<_>, Vec<_>) = set
            .unchanged_streams()
            .iter()
            .map(|(stream, version)| (stream.as_str(), number(version.next())))
            .unzip();
        if !streams.is_empty() {
            let query = sqlx::query(self.sql(DELETE_CHECKS)).bind(streams).bind(firsts);
            self.within(query.execute(connection)).await?;
        }
        Ok(true)
    }

    /// Takes, moves, and releases claims. Returns whether all of them were free, or held by the stream that may hold
    /// them.
    async fn change_claims(
        &self,
        connection: &mut PgConnection,
        net: &[NetChange<'_>],
    ) -> Result<bool, Failed> {
        if net.is_empty() {
            return Ok(true);
        }
        let names = |changes: &[&NetChange<'_>]| -> Vec<String> {
            changes.iter().map(|change| change.claim.name().to_owned()).collect()
        };
        let values = |changes: &[&NetChange<'_>]| -> Vec<String> {
            changes.iter().map(|change| change.claim.value().to_owned()).collect()
        };
        let all: Vec<_> = net.iter().collect();
        let before: Vec<_> = net.iter().map(|change| change.before.as_str()).collect();
        let query = sqlx::query(self.sql(INSERT_CLAIMS)).bind(names(&all)).bind(values(&all)).bind(before);
        let inserted = self.within(query.execute(&mut *connection)).await?;
        if inserted.rows_affected() < net.len() as u64 {
            return Ok(false);
        }
        let is_moved = |change: &&NetChange<'_>| change.after.is_some_and(|after| after != change.before);
        let moved: Vec<_> = net.iter().filter(is_moved).collect();
        if !moved.is_empty() {
            let after: Vec<_> =
                moved.iter().filter_map(|change| change.after.map(StreamId::as_str)).collect();
            let query =
                sqlx::query(self.sql(MOVE_CLAIMS)).bind(names(&moved)).bind(values(&moved)).bind(after);
            self.within(query.execute(&mut *connection)).await?;
        }
        let released: Vec<_> = net.iter().filter(|change| change.after.is_none()).collect();
        if !released.is_empty() {
            let query = sqlx::query(self.sql(DELETE_CLAIMS)).bind(names(&released)).bind(values(&released));
            self.within(query.execute(connection)).await?;
        }
        Ok(true)
    }

    /// Resolves a set whose insert did not succeed: returns the error, or the success of an earlier attempt. The set's
    /// own commit is looked for first: if it exists, all of the set is stored, regardless of later changes.
    async fn resolve_raced(
        &self,
        connection: &mut PgConnection,
        set: &WriteSet,
        net: &[NetChange<'_>],
        written: Written,
    ) -> Result<Result<Written, WriteError>, Failed> {
        let mut places: Vec<(&StreamId, Version)> = Vec::new();
        for append in set.appends() {
            places.push((append.stream(), append.start()?.next()));
        }
        places.extend(set.unchanged_streams().iter().map(|(stream, version)| (stream, version.next())));
        let mut found = appends_at(self, connection, &places).await?;
        for (append, stored) in set.appends().iter().zip(&found) {
            if let Some(first) = stored.first().filter(|first| first.id == append.id()) {
                append.repeated(
                    first.first,
                    stored.iter().map(|commit| (commit.id, commit.last())),
                    Cost::ZERO,
                )?;
                return Ok(Ok(written.repeated()));
            }
        }
        if let Some(new) = set.idempotency() {
            match claims::record(self, connection, &new.key).await? {
                Some(record) if record.id == new.id => return Ok(Ok(written.repeated())),
                Some(record) if record.is_valid_at(new.now) => {
                    return Ok(Err(WriteError::AlreadyDone(record)));
                }
                _ => {}
            }
        }
        if let Some(index) = found.iter().position(|stored| !stored.is_empty()) {
            let expected = match set.appends().get(index) {
                Some(append) => Append::expected(append),
                None => ExpectedVersion::Exact(places[index].1.previous()),
            };
            let winner = found.swap_remove(index);
            let conflict = Conflict::new(places[index].0.clone(), expected, last_of(&winner), written.cost);
            return Ok(Err(conflict.with_commits(winner).into()));
        }
        for change in net {
            let holder = claims::holder(self, connection, change.claim).await?;
            if holder.as_ref().is_some_and(|holder| holder != change.before) {
                return Ok(Err(Claimed::new(change.claim.clone(), holder, change.before.clone()).into()));
            }
        }
        // What was in the way is gone.
        Err(StoreError::Throttled("a concurrent transaction has changed the same rows".into()).into())
    }
}

/// A row that can only be inserted if its stream still ends at `version`, and is deleted in the same transaction.
fn check_row(version: Version) -> NewRow {
    let first = number(version.next());
    NewRow {
        first,
        last: first,
        id: Uuid::nil(),
        at: DateTime::UNIX_EPOCH,
        metadata: None,
        events: "[]".to_owned(),
    }
}
