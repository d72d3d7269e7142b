//! Reading streams: pages of commits, starting from the snapshot if it can be used.

use es_core::Cost;
use es_core::snapshot::Fingerprint;
use es_core::store::{Contiguity, Page, Read};
use es_core::{StoreError, StreamId, Version};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::row::number;
use super::snapshot::{self, StoredSnapshot};
use super::{column, commit_from};
use crate::database::{Database, Failed};

/// The maximum number of commits in a page, except the first one.
const PAGE_COMMITS: usize = 1000;

/// The size of a page in bytes, which its last commit may exceed (1 MiB).
const PAGE_BYTES: u64 = 1024 * 1024;

/// The maximum number of commits in the first page. The server does not add up their sizes, which would take longer
/// than to read a short stream.
const FIRST_COMMITS: usize = 128;

/// The size that the first page may have if all payloads in it are as large as possible (50 MB).
const FIRST_BYTES: u64 = 50_000_000;

/// The first page of commits after a version.
const FIRST_PAGE: &str = "SELECT first, last, id, at, metadata, events FROM {schema}.commits \
     WHERE stream = $1 AND first > $2 AND first <= $3 ORDER BY first LIMIT $4";

/// A later page. Only if its commits exceed the size of a page are their sizes added up one by one.
const PAGE: &str = "SELECT first, last, id, at, metadata, events, bytes FROM {schema}.commits \
     WHERE stream = $1 AND first > $2 AND first <= $3 ORDER BY first LIMIT ( \
         SELECT CASE WHEN sum(bytes) < $5 THEN $4 ELSE ( \
             SELECT count(*) FROM ( \
                 SELECT sum(bytes) OVER (ORDER BY first ROWS UNBOUNDED PRECEDING) - bytes AS before FROM {schema}.commits \
                 WHERE stream = $1 AND first > $2 AND first <= $3 ORDER BY first LIMIT $4 \
             ) AS sizes WHERE before < $5 \
         ) END FROM ( \
             SELECT bytes FROM {schema}.commits WHERE stream = $1 AND first > $2 AND first <= $3 ORDER BY first LIMIT $4 \
         ) AS page)";

/// The position of the column `bytes` in a later page.
const BYTES: usize = 6;

/// The snapshot, and the first page after it: the page from the start of the stream if the snapshot has another
/// fingerprint, or the stream has no commit that ends at its version and has its time.
const SNAPSHOT_AND_PAGE: &str = "WITH snapshot AS ( \
         SELECT version, at, fingerprint, checksum, state, fingerprint = $2 AND coalesce(( \
             SELECT commits.last = version AND commits.at = snapshots.at FROM {schema}.commits \
             WHERE commits.stream = $1 AND first <= version ORDER BY first DESC LIMIT 1), false) AS fits \
         FROM {schema}.snapshots WHERE snapshots.stream = $1 \
     ) \
     SELECT NULL AS first, version AS last, NULL AS id, at, NULL AS metadata, NULL AS events, \
         fingerprint, checksum, CASE WHEN fits THEN state END AS state FROM snapshot \
     UNION ALL \
     SELECT first, last, id, at, metadata, events, NULL, NULL, NULL FROM ( \
         SELECT * FROM {schema}.commits \
         WHERE stream = $1 AND first > coalesce((SELECT version FROM snapshot WHERE fits), 0) ORDER BY first LIMIT $3 \
     ) AS page";

/// The state of a paged read.
struct Reading {
    read: Read,
    contiguity: Contiguity,
    next: Next,
}

enum Next {
    Start,
    Continue,
    End,
}

impl Database {
    pub(crate) fn read_stream(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let contiguity = Contiguity::after(read.stream().clone(), read.start());
        let reading = Reading { read, contiguity, next: Next::Start };
        let pages = stream::try_unfold(reading, async |mut reading| {
            let page = match reading.next {
                Next::Start => self.first_page(&mut reading).await?,
                Next::Continue => self.page(&mut reading).await?,
                Next::End => return Ok(None),
            };
            Ok(Some((page, reading)))
        });
        pages.boxed()
    }

    /// Returns the first page: with the snapshot, if the read allows one and it can be used.
    async fn first_page(&self, reading: &mut Reading) -> Result<Page, StoreError> {
        let (stream, limit) = (reading.read.stream().clone(), self.first_commits());
        let Some(request) = reading.read.snapshot() else {
            let rows = self.rows(FIRST_PAGE, reading, limit, None).await?;
            return self.decode(reading, &rows, limit, None);
        };
        let (stored, rows) = self.snapshot_and_rows(&stream, request.fingerprint, limit).await?;
        let Some(stored) = stored else { return self.decode(reading, &rows, limit, None) };
        let (version, is_followed) = (stored.version, stored.is_followed());
        if let Some(snapshot) = stored.usable(request.fingerprint) {
            reading.contiguity = Contiguity::after(stream, version);
            let mut page = self.decode(reading, &rows, limit, None)?;
            page.snapshot = Some(snapshot);
            return Ok(page);
        }
        let mut page = match is_followed {
            // The checksum is wrong, which the server has not checked.
            true => {
                let mut page = self.page(reading).await?;
                page.cost += Cost::read(0.0);
                page
            }
            false => self.decode(reading, &rows, limit, None)?,
        };
        page.unusable_snapshot = Some(version);
        Ok(page)
    }

    async fn snapshot_and_rows(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> Result<(Option<StoredSnapshot>, Vec<PgRow>), StoreError> {
        let mut session = self.connect().await?;
        let query = sqlx::query(self.sql(SNAPSHOT_AND_PAGE)).bind(stream.as_str());
        let query = query.bind(fingerprint.get().cast_signed());
        let query = query.bind(limit as i64);
        let rows = self.within(query.fetch_all(session.connection())).await;
        let mut rows = rows.map_err(|failed| failed.of_read(self))?;
        session.release();
        let is_snapshot =
            |row: &PgRow| row.try_get::<Option<i64>, _>(column::FIRST).is_ok_and(|first| first.is_none());
        let stored = match rows.iter().position(is_snapshot) {
            Some(index) => {
                Some(snapshot::stored_from(&rows.remove(index)).map_err(|failed| failed.of_read(self))?)
            }
            None => None,
        };
        Ok((stored, rows))
    }

    async fn page(&self, reading: &mut Reading) -> Result<Page, StoreError> {
        let rows = self.rows(PAGE, reading, PAGE_COMMITS, Some(PAGE_BYTES)).await?;
        self.decode(reading, &rows, PAGE_COMMITS, Some(PAGE_BYTES))
    }

    /// Returns the rows of the next page.
    async fn rows(
        &self,
        sql: &'static str,
        reading: &Reading,
        limit: usize,
        bytes: Option<u64>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let end = reading.read.end().unwrap_or(Version::MAX);
        let mut session = self.connect().await?;
        let query = sqlx::query(self.sql(sql)).bind(reading.read.stream().as_str());
        let query = query.bind(number(reading.contiguity.last())).bind(number(end)).bind(limit as i64);
        let query = match bytes {
            Some(bytes) => query.bind(bytes.cast_signed()),
            None => query,
        };
        let rows = self.within(query.fetch_all(session.connection())).await;
        let rows = rows.map_err(|failed| failed.of_read(self))?;
        session.release();
        Ok(rows)
    }

    /// Returns the maximum number of commits in the first page.
    fn first_commits(&self) -> usize {
        let fitting = self.max_bytes.map_or(u64::MAX, |max_bytes| FIRST_BYTES / max_bytes.max(1));
        usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, FIRST_COMMITS)
    }

    /// Decodes a page, and notes whether another one follows: if it has `limit` commits or at least `max_bytes`. If the
    /// bytes are limited, the rows have their number.
    fn decode(
        &self,
        reading: &mut Reading,
        rows: &[PgRow],
        limit: usize,
        max_bytes: Option<u64>,
    ) -> Result<Page, StoreError> {
        let (mut commits, mut bytes) = (Vec::with_capacity(rows.len()), 0);
        for row in rows {
            let decoded = (|| {
                if max_bytes.is_some() {
                    bytes += u64::from(row.try_get::<i32, _>(BYTES)?.unsigned_abs());
                }
                commit_from(reading.read.stream(), row)
            })();
            let commit = decoded.map_err(|failed: Failed| failed.of_read(self))?;
            reading.contiguity.check(&commit)?;
            commits.push(commit);
        }
        let is_full = rows.len() >= limit || max_bytes.is_some_and(|max_bytes| bytes >= max_bytes);
        reading.next = if is_full { Next::Continue } else { Next::End };
        Ok(Page::new(commits, Cost::read(0.0)))
    }
}
