//! Reading streams: pages of commits, starting from the snapshot if it can be used.

use es_core::Cost;
use es_core::snapshot::Fingerprint;
use es_core::store::{Commit, Contiguity, Page, Read};
use es_core::{StoreError, StreamId, Version};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use sqlx::Row;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;

use super::row::number;
use super::snapshot::{self, StoredSnapshot};
use super::{column, commit_from};
use crate::database::{Database, Failed};

/// The maximum number of commits in the first page.
const FIRST_COMMITS: usize = 500;

/// The maximum number of commits in a later page.
const PAGE_COMMITS: usize = 2_000;

/// The size of the events in a page in bytes, which its last commit may exceed (16 MiB).
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// The commits after a version.
const PAGE: &str = "SELECT first, last, id, at, metadata, events FROM {schema}.commits \
     WHERE stream = $1 AND first > $2 AND first <= $3 ORDER BY first LIMIT $4";

/// The commits after a version, and the one that it is inside of.
const PAGE_FROM_INSIDE: &str = "SELECT first, last, id, at, metadata, events FROM {schema}.commits \
     WHERE stream = $1 AND first > coalesce(( \
         SELECT CASE WHEN last > $2 THEN first - 1 ELSE $2 END FROM {schema}.commits \
         WHERE stream = $1 AND first <= $2 ORDER BY first DESC LIMIT 1), $2) \
     AND first <= $3 ORDER BY first LIMIT $4";

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
    /// The maximum number of commits in the next page; `None` after the last one.
    limit: Option<usize>,
    /// The number and the size of the commits so far.
    commits: usize,
    bytes: usize,
}

/// The rows of a page.
#[derive(Default)]
struct Rows {
    snapshot: Option<StoredSnapshot>,
    commits: Vec<Commit>,
    bytes: usize,
    /// Whether rows are left because the page has its size.
    is_cut: bool,
}

impl Database {
    pub(crate) fn read_stream(&self, read: Read) -> BoxStream<'_, Result<Page, StoreError>> {
        let contiguity = Contiguity::of(&read);
        let reading = Reading { read, contiguity, limit: Some(FIRST_COMMITS), commits: 0, bytes: 0 };
        let pages = stream::try_unfold(reading, async |mut reading| {
            let Some(limit) = reading.limit else { return Ok(None) };
            // Only the first page is preceded by no commits: another one follows a page that is full.
            let page = match reading.read.snapshot().filter(|_| reading.commits == 0) {
                Some(request) => self.page_with_snapshot(&mut reading, request.fingerprint, limit).await?,
                None => self.page(&mut reading, limit).await?,
            };
            Ok(Some((page, reading)))
        });
        pages.boxed()
    }

    /// Returns the first page, with the snapshot if it can be used.
    async fn page_with_snapshot(
        &self,
        reading: &mut Reading,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let stream = reading.read.stream().clone();
        let query = sqlx::query(self.sql(SNAPSHOT_AND_PAGE)).bind(stream.as_str());
        let query = query.bind(fingerprint.get().cast_signed()).bind(limit as i64);
        let mut rows = self.rows(&stream, query).await?;
        let Some(stored) = rows.snapshot.take() else { return reading.accept(rows, limit) };
        let (version, is_followed) = (stored.version, stored.is_followed());
        if let Some(snapshot) = stored.usable(fingerprint) {
            reading.contiguity = Contiguity::after(stream, version);
            let mut page = reading.accept(rows, limit)?;
            page.snapshot = Some(snapshot);
            return Ok(page);
        }
        let mut page = match is_followed {
            // The checksum is wrong, which the server has not checked.
            true => {
                let mut page = self.page(reading, limit).await?;
                page.cost += Cost::read(0.0);
                page
            }
            false => reading.accept(rows, limit)?,
        };
        page.unusable_snapshot = Some(version);
        Ok(page)
    }

    /// Returns the next page.
    async fn page(&self, reading: &mut Reading, limit: usize) -> Result<Page, StoreError> {
        let end = reading.read.end().unwrap_or(Version::MAX);
        let stream = reading.read.stream();
        let last = reading.contiguity.last();
        if end <= last {
            return reading.accept(Rows::default(), limit);
        }
        let may_be_inside = reading.commits == 0 && reading.read.may_start_inside();
        let sql = if may_be_inside { PAGE_FROM_INSIDE } else { PAGE };
        let query = sqlx::query(self.sql(sql)).bind(stream.as_str());
        let query = query.bind(number(last)).bind(number(end)).bind(limit as i64);
        let rows = self.rows(stream, query).await?;
        reading.accept(rows, limit)
    }

    /// Decodes rows as they arrive, until they have the size of a page. Adding up the sizes on the server would take
    /// longer than to read the rows.
    async fn rows(
        &self,
        stream: &StreamId,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Rows, StoreError> {
        let mut session = self.connect().await?;
        let mut found = Rows::default();
        let reading = async {
            let mut rows = query.fetch(session.connection());
            while let Some(row) = rows.try_next().await? {
                if row.try_get_unchecked::<Option<i64>, _>(column::FIRST)?.is_none() {
                    found.snapshot = Some(snapshot::stored_from(&row)?);
                    continue;
                }
                if found.bytes >= PAGE_BYTES {
                    found.is_cut = true;
                    break;
                }
                let commit = commit_from(stream, &row)?;
                found.bytes += commit.events.iter().map(|event| event.payload().len()).sum::<usize>();
                found.commits.push(commit);
            }
            Ok::<_, Failed>(())
        };
        self.within(reading).await.map_err(|failed| failed.of_read(self))?;
        if !found.is_cut {
            session.release();
        }
        Ok(found)
    }
}

impl Reading {
    /// Returns the commits as a page, and notes whether another one follows.
    fn accept(&mut self, rows: Rows, limit: usize) -> Result<Page, StoreError> {
        rows.commits.iter().try_for_each(|commit| self.contiguity.check(commit))?;
        self.commits += rows.commits.len();
        self.bytes += rows.bytes;
        let is_full = rows.is_cut || rows.commits.len() >= limit;
        self.limit = is_full.then(|| self.next_limit());
        Ok(Page::new(rows.commits, Cost::read(0.0)))
    }

    /// Returns the number of commits of which half a page is expected, so that pages are rarely cut: this closes the
    /// connection, because the rest of the rows is on its way.
    fn next_limit(&self) -> usize {
        let half = (PAGE_BYTES / 2).saturating_mul(self.commits) / self.bytes.max(1);
        half.clamp(1, PAGE_COMMITS)
    }
}
