//! Claims and idempotency records.

use chrono::{DateTime, Utc};
use es_core::Cost;
use es_core::StoreError;
use es_core::store::{
    Claim, EventRange, Holder, IdempotencyKey, IdempotencyLookup, IdempotencyRecord, NewIdempotencyRecord,
    StoredKey,
};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres, Row, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::row::number;
use super::version;
use crate::database::{Database, Failed};

const HOLDER: &str = "SELECT stream FROM {schema}.claims WHERE name = $1 AND value = $2";

const RECORD: &str = "SELECT id, expires, fingerprint, ranges::text AS ranges FROM {schema}.idempotency \
     WHERE stream = $1 AND key = $2";

/// Replaces a record that has expired, in whole seconds.
const INSERT_RECORD: &str = "INSERT INTO {schema}.idempotency AS stored (stream, key, id, expires, fingerprint, ranges) \
     VALUES ($1, $2, $3, $4, $5, $6::json) ON CONFLICT (stream, key) DO UPDATE SET id = excluded.id, \
         expires = excluded.expires, fingerprint = excluded.fingerprint, ranges = excluded.ranges \
     WHERE date_trunc('second', stored.expires) < date_trunc('second', $7)";

/// A page of claims after a name and a value.
const CLAIMS: &str = "SELECT name, value, stream FROM {schema}.claims WHERE (name, value) > ($1, $2) \
     ORDER BY name, value LIMIT 1000";

/// A page of records after a stream and a key.
const RECORDS: &str = "SELECT stream, key, id, expires, fingerprint, ranges::text AS ranges FROM {schema}.idempotency \
     WHERE (stream, key) > ($1, $2) ORDER BY stream, key LIMIT 1000";

const DELETE_EXPIRED: &str = "DELETE FROM {schema}.idempotency WHERE (stream, key) IN ( \
         SELECT stream, key FROM {schema}.idempotency WHERE expires < date_trunc('second', $1) \
         ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// A range of events in the column `ranges`.
#[derive(Serialize, Deserialize)]
struct StoredRange<'a> {
    #[serde(borrow)]
    stream: std::borrow::Cow<'a, str>,
    first: i64,
    last: i64,
}

impl Database {
    pub(crate) async fn claim_holder(&self, claim: &Claim) -> Result<Holder, StoreError> {
        let mut session = self.connect().await?;
        let holder = holder(self, session.connection(), claim).await;
        let holder = holder.map_err(|failed| failed.of_read(self))?;
        session.release();
        Ok(Holder::new(holder, Cost::read(0.0)))
    }

    pub(crate) async fn idempotency_record(
        &self,
        key: &IdempotencyKey,
    ) -> Result<IdempotencyLookup, StoreError> {
        let mut session = self.connect().await?;
        let record = record(self, session.connection(), key).await;
        let record = record.map_err(|failed| failed.of_read(self))?;
        session.release();
        Ok(IdempotencyLookup::new(record, Cost::read(0.0)))
    }

    /// Deletes idempotency records that have expired before `now`, at most `limit`, and returns their number.
    pub(crate) async fn delete_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut session = self.connect().await?;
        let query = sqlx::query(self.single_sql(DELETE_EXPIRED)).bind(now).bind(i64::from(limit));
        let deleted = self.execute_single(session.connection(), query).await;
        let deleted = deleted.map_err(|failed| failed.of_write(self))?;
        session.release();
        Ok(deleted)
    }

    /// Lists all claims, and then all idempotency records.
    pub(crate) fn stored_keys(&self) -> BoxStream<'_, Result<StoredKey, StoreError>> {
        let claims = self.list(CLAIMS, ["name", "value"], claim_from);
        claims.chain(self.list(RECORDS, ["stream", "key"], keyed_record_from)).boxed()
    }

    /// Lists the rows of a table in pages, by its primary key, which consists of two texts.
    fn list(
        &self,
        sql: &'static str,
        key: [&'static str; 2],
        decode: fn(&PgRow) -> Result<StoredKey, Failed>,
    ) -> BoxStream<'_, Result<StoredKey, StoreError>> {
        let start = Some([String::new(), String::new()]);
        let pages = stream::try_unfold(start, move |after| async move {
            let Some([first, second]) = after else { return Ok(None) };
            let mut session = self.connect().await?;
            let query = sqlx::query(self.sql(sql)).bind(first).bind(second);
            let rows = self.within(query.fetch_all(session.connection())).await;
            let rows = rows.map_err(|failed| failed.of_read(self))?;
            session.release();
            let last = rows.last().map(|row| Ok([row.try_get(key[0])?, row.try_get(key[1])?])).transpose();
            let last: Option<[String; 2]> =
                last.map_err(|error: sqlx::Error| Failed::from(error).of_read(self))?;
            let keys = rows.iter().map(|row| decode(row).map_err(|failed| failed.of_read(self)));
            Ok::<_, StoreError>(Some((stream::iter(keys.collect::<Vec<_>>()), last)))
        });
        pages.try_flatten().boxed()
    }

    /// Returns the statement that inserts a record, unless its key has one that has not expired.
    pub(super) fn insert_record(
        &self,
        new: &NewIdempotencyRecord,
    ) -> Result<Query<'static, Postgres, PgArguments>, StoreError> {
        let ranges = new.ranges.iter().map(|range| StoredRange {
            stream: range.stream.as_str().into(),
            first: number(range.first),
            last: number(range.last),
        });
        let ranges = serde_json::to_string(&ranges.collect::<Vec<_>>()).map_err(|error| {
            StoreError::invalid(format!("the ranges of a write cannot be encoded: {error}"))
        })?;
        let query = sqlx::query(self.sql(INSERT_RECORD)).bind(stream_of(&new.key)).bind(new.key.key());
        let query = query.bind(new.id).bind(new.expires).bind(new.fingerprint.as_deref());
        Ok(query.bind(ranges).bind(new.now))
    }
}

fn stream_of(key: &IdempotencyKey) -> &str {
    key.stream().map_or("", es_core::StreamId::as_str)
}

/// Returns the stream that holds a claim.
pub(super) async fn holder(
    database: &Database,
    connection: &mut PgConnection,
    claim: &Claim,
) -> Result<Option<es_core::StreamId>, Failed> {
    let query = sqlx::query(database.sql(HOLDER)).bind(claim.name()).bind(claim.value());
    let row = database.within(query.fetch_optional(connection)).await?;
    row.map(|row| holder_from(claim, &row)).transpose()
}

fn holder_from(claim: &Claim, row: &PgRow) -> Result<es_core::StreamId, Failed> {
    let stream: &str = row.try_get("stream")?;
    let corrupt = |error| {
        StoreError::corrupt_item(
            format!("the claim `{}`", claim.name()),
            format!("its holder is invalid: {error}"),
        )
    };
    Ok(stream.parse().map_err(corrupt)?)
}

/// Returns the record of an idempotency key, even if it has expired.
pub(super) async fn record(
    database: &Database,
    connection: &mut PgConnection,
    key: &IdempotencyKey,
) -> Result<Option<IdempotencyRecord>, Failed> {
    let query = sqlx::query(database.sql(RECORD)).bind(stream_of(key)).bind(key.key());
    let row = database.within(query.fetch_optional(connection)).await?;
    row.map(|row| record_from(&row)).transpose()
}

fn claim_from(row: &PgRow) -> Result<StoredKey, Failed> {
    let claim = Claim::new(row.try_get::<&str, _>("name")?, row.try_get::<&str, _>("value")?)?;
    let stream = holder_from(&claim, row)?;
    Ok(StoredKey::Claim { claim, stream })
}

fn keyed_record_from(row: &PgRow) -> Result<StoredKey, Failed> {
    let stream = match row.try_get("stream")? {
        "" => None,
        stream => Some(stream.parse().map_err(|error| {
            StoreError::corrupt_item(
                "the record of an idempotency key",
                format!("its stream is invalid: {error}"),
            )
        })?),
    };
    let key = IdempotencyKey::new(stream, row.try_get::<&str, _>("key")?)?;
    Ok(StoredKey::Idempotency { key, record: record_from(row)? })
}

fn record_from(row: &PgRow) -> Result<IdempotencyRecord, Failed> {
    let corrupt = || StoreError::corrupt_item("the record of an idempotency key", "its ranges are malformed");
    let stored: Vec<StoredRange<'_>> = serde_json::from_str(row.try_get("ranges")?).map_err(|_| corrupt())?;
    let ranges = stored.iter().map(|range| {
        let stream = range.stream.parse().map_err(|_| corrupt())?;
        Ok(EventRange::new(stream, version(range.first), version(range.last)))
    });
    let ranges = ranges.collect::<Result<_, StoreError>>()?;
    let record = IdempotencyRecord::new(row.try_get::<Uuid, _>("id")?, ranges, row.try_get("expires")?);
    Ok(record.with_fingerprint(row.try_get("fingerprint")?))
}
