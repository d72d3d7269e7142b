//! The feed: all commits in the order of their transactions, below the oldest transaction that is still open.
//!
//! A number from a sequence, or a transaction id, is assigned before the commit becomes visible. A reader that
//! continues after the highest one that it has seen would skip a slower writer's commit. So a read ends at the
//! *horizon*: the oldest transaction of the cluster that is still open. All commits below it are visible, and no commit
//! below it can be added. Their order `(tx, n)` is therefore final, and so are the positions, which count the events in
//! this order. Marks, each a position with the commit that ends there, save counting from the start. Any reader may add
//! marks: they state facts.

mod growth;
mod horizon;

use es_core::feed::{
    FeedAnchor, FeedEnd, FeedEntry, FeedError, FeedPage, FeedRead, MissingCommit, Position, Slice, Slices,
};
use es_core::{Cost, StoreError, StreamId, Version};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::database::{Database, Failed};
use crate::streams::{column, commit_from, version};
pub(crate) use growth::Growth;
use horizon::Horizon;
pub use horizon::{FeedDelay, OpenTransaction};

/// The feed has one order, and so one slice.
pub(crate) const SLICES: Slices = Slices::new(1).expect("not zero");

/// How many commits may follow the last mark before a reader adds marks.
const MARK_INTERVAL: i64 = 128;

/// How many commits a read counts from a mark to its position. If the position is farther away, marks are added first.
const COUNTED: i64 = 1_024;

/// A first row about the feed, and the commits from the one with the position `$1`, in the order of the feed. The
/// commits before it are counted from the last mark: at most `$5` of them, so that a page never reads the rest of the
/// feed. The content is returned for commits after the position, until these have `$2` events or `$3` bytes.
const READ: &str = "WITH mark AS ( \
         SELECT position, tx, n FROM {schema}.feed_marks WHERE position < greatest($1, 1) ORDER BY position DESC LIMIT 1 \
     ), horizon AS ( \
         SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + tx_offset AS tx FROM {schema}.store \
     ) \
     SELECT (SELECT tx FROM {schema}.feed_marks ORDER BY position DESC LIMIT 1) AS first, tx AS last, NULL AS id, NULL AS at, \
         NULL AS metadata, NULL AS events, NULL AS stream, NULL AS number, NULL AS position, \
         coalesce((SELECT max(commits.tx) FROM {schema}.commits) >= horizon.tx, false) AS fits \
     FROM horizon \
     UNION ALL SELECT first, last, id, at, CASE WHEN fits THEN metadata END, CASE WHEN fits THEN events END, \
         stream, number, position, fits \
     FROM (SELECT *, position - (last - first + 1) - $1 < $2 AND sum(wanted) OVER (ORDER BY tx, n) - wanted < $3 AS fits \
         FROM (SELECT *, CASE WHEN position > $1 THEN bytes ELSE 0 END AS wanted \
             FROM (SELECT *, row_number() OVER (ORDER BY tx, n) AS number, \
                     (SELECT position FROM mark) + (sum(last - first + 1) OVER (ORDER BY tx, n))::bigint AS position \
                 FROM {schema}.commits \
                 WHERE (tx, n) > ((SELECT tx FROM mark), (SELECT n FROM mark)) AND tx < (SELECT tx FROM horizon) \
                 ORDER BY tx, n LIMIT $4 + $5 \
             ) AS counted WHERE position >= $1 \
         ) AS found ORDER BY tx, n LIMIT $4) AS page";

/// The end of the feed with the last commit, and how many commits follow the last mark.
const END: &str = "WITH horizon AS ( \
         SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + tx_offset AS tx FROM {schema}.store \
     ) \
     SELECT mark.position + counted.events AS position, number, id, newest.last - newest.first AS before \
     FROM (SELECT position, tx, n FROM {schema}.feed_marks ORDER BY position DESC LIMIT 1) AS mark \
     CROSS JOIN LATERAL ( \
         SELECT coalesce(sum(last - first + 1), 0)::bigint AS events, count(*) AS number FROM {schema}.commits \
         WHERE (commits.tx, commits.n) > (mark.tx, mark.n) AND commits.tx < (SELECT tx FROM horizon) \
     ) AS counted \
     LEFT JOIN LATERAL ( \
         SELECT first, last, id FROM {schema}.commits WHERE commits.tx < (SELECT tx FROM horizon) \
         ORDER BY commits.tx DESC, commits.n DESC LIMIT 1 \
     ) AS newest ON true";

/// Adds a mark for each 128 commits after the last one.
const ADD_MARKS: &str = "WITH mark AS ( \
         SELECT position, tx, n FROM {schema}.feed_marks ORDER BY position DESC LIMIT 1 \
     ) \
     INSERT INTO {schema}.feed_marks (position, tx, n) SELECT position, tx, n FROM ( \
         SELECT tx, n, row_number() OVER (ORDER BY tx, n) AS number, \
             (SELECT position FROM mark) + (sum(last - first + 1) OVER (ORDER BY tx, n))::bigint AS position \
         FROM {schema}.commits \
         WHERE (tx, n) > ((SELECT tx FROM mark), (SELECT n FROM mark)) AND tx < ( \
             SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + tx_offset FROM {schema}.store) \
         ORDER BY tx, n LIMIT 131072 \
     ) AS counted WHERE number % $1 = 0 ON CONFLICT (position) DO NOTHING";

/// The version up to which a stream is in the feed.
const INDEXED: &str = "SELECT last FROM {schema}.commits WHERE stream = $1 AND tx < ( \
         SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + tx_offset FROM {schema}.store) \
     ORDER BY first DESC LIMIT 1";

/// The part of a store that concerns its feed.
pub(crate) struct FeedState {
    pub(crate) growth: Growth,
    horizon: Horizon,
}

impl FeedState {
    pub(crate) fn new(growth: Growth) -> Self {
        Self { growth, horizon: Horizon::default() }
    }
}

/// A commit in a page.
struct Place<'r> {
    row: &'r PgRow,
    /// The position of its last event.
    last: Position,
    anchor: FeedAnchor,
    stream: StreamId,
    /// Whether the commit is within the limits of the page.
    fits: bool,
}

impl<'r> Place<'r> {
    fn of(row: &'r PgRow) -> Result<Self, Failed> {
        let text: &str = row.try_get("stream")?;
        let stream = text.parse().map_err(|error| {
            StoreError::corrupt_item(format!("the stream {text:?}"), format!("its name is invalid: {error}"))
        })?;
        let last = Position::new(row.try_get::<i64, _>("position")?.unsigned_abs());
        let events = row.try_get::<i64, _>(column::LAST)? - row.try_get::<i64, _>(column::FIRST)?;
        let first = Position::new(last.get().saturating_sub(events.unsigned_abs()));
        let anchor = FeedAnchor::new(first, row.try_get::<Uuid, _>(column::ID)?);
        Ok(Self { row, last, anchor, stream, fits: row.try_get("fits")? })
    }

    /// Returns the commit with its position.
    fn entry(&self, slice: Slice) -> Result<FeedEntry, Failed> {
        match commit_from(&self.stream, self.row) {
            Ok(commit) => Ok(FeedEntry::new(self.anchor.first(), self.stream.clone(), commit)),
            Err(Failed::Store(error)) => {
                let versions =
                    (version(self.row.try_get(column::FIRST)?), version(self.row.try_get(column::LAST)?));
                let place = (self.anchor.first(), self.anchor);
                let missing =
                    MissingCommit::new(slice, place, self.stream.clone(), versions, error.to_string());
                Err(StoreError::from(FeedError::from(missing)).into())
            }
            Err(failed) => Err(failed),
        }
    }
}

impl Database {
    pub(crate) async fn read_feed(&self, state: &FeedState, read: &FeedRead) -> Result<FeedPage, StoreError> {
        check_slice(read.slice)?;
        let Ok(after) = i64::try_from(read.after.get()) else { return Err(self.beyond_end(read).await) };
        if let Some(page) = self.read_page(state, read, after).await? {
            return Ok(page);
        }
        // The position is beyond the end, or too far from the last mark. Another reader may be adding marks, too.
        loop {
            let added = self.add_marks().await?;
            if let Some(page) = self.read_page(state, read, after).await? {
                return Ok(page);
            }
            if added == 0 {
                return Err(self.beyond_end(read).await);
            }
        }
    }

    /// Returns the page after a position, or `None` if none of the commits that are counted from the last mark contains
    /// it.
    async fn read_page(
        &self,
        state: &FeedState,
        read: &FeedRead,
        after: i64,
    ) -> Result<Option<FeedPage>, StoreError> {
        let mut session = self.connect().await?;
        let query = sqlx::query(self.sql(READ)).bind(after).bind(i64::from(read.limit));
        let query = query.bind(i64::try_from(read.max_bytes).unwrap_or(i64::MAX));
        // The commit that contains the position, those that are wanted, and one that tells whether more follow.
        let query = query.bind(i64::from(read.limit) + 2).bind(COUNTED);
        let rows = self.within(query.fetch_all(session.connection())).await;
        let rows = rows.map_err(|failed| failed.of_read(self))?;
        session.release();
        let (about, rows) = rows.split_first().ok_or_else(|| self.no_store())?;
        self.observe(state, about).await?;
        let from_mark = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("number"));
        let from_mark = from_mark.map_err(|error| Failed::from(error).of_read(self))?;
        if from_mark > COUNTED {
            return Ok(None);
        }
        if from_mark > 2 * MARK_INTERVAL {
            self.add_marks().await?;
        }
        page_of(read, rows).map_err(|failed| failed.of_read(self))
    }

    async fn beyond_end(&self, read: &FeedRead) -> StoreError {
        match self.feed_end(read.slice).await {
            Ok(end) => FeedError::beyond_end(read.slice, read.after, end.position).into(),
            Err(error) => error,
        }
    }

    fn no_store(&self) -> StoreError {
        let reason = format!("the table `{}.store` is empty: restore it from a backup", self.schema());
        StoreError::corrupt_item("the event store", reason)
    }

    pub(crate) async fn feed_end(&self, slice: Slice) -> Result<FeedEnd, StoreError> {
        check_slice(slice)?;
        loop {
            let mut session = self.connect().await?;
            let row = self.within(sqlx::query(self.sql(END)).fetch_one(session.connection())).await;
            let row = row.map_err(|failed| failed.of_read(self))?;
            session.release();
            let (end, number) = end_from(&row).map_err(|error| Failed::from(error).of_read(self))?;
            if number <= 2 * MARK_INTERVAL || self.add_marks().await? == 0 {
                return Ok(end);
            }
        }
    }

    /// Adds marks, and returns their number.
    async fn add_marks(&self) -> Result<u64, StoreError> {
        let mut session = self.connect().await?;
        let query = sqlx::query(self.single_sql(ADD_MARKS)).bind(MARK_INTERVAL);
        let added = self.execute_single(session.connection(), query).await;
        let added = added.map_err(|failed| failed.of_read(self))?;
        session.release();
        Ok(added)
    }

    pub(crate) async fn indexed(&self, stream: &StreamId) -> Result<Version, StoreError> {
        self.last_version(INDEXED, stream).await
    }
}

/// Decodes the end of the feed, and the number of commits after the last mark.
fn end_from(row: &PgRow) -> Result<(FeedEnd, i64), sqlx::Error> {
    let position = Position::new(row.try_get::<i64, _>("position")?.unsigned_abs());
    let anchor = match row.try_get::<Option<i64>, _>("before")? {
        None => None,
        Some(before) => {
            let first = Position::new(position.get().saturating_sub(before.unsigned_abs()));
            Some(FeedAnchor::new(first, row.try_get::<Uuid, _>("id")?))
        }
    };
    Ok((FeedEnd::new(position, anchor), row.try_get("number")?))
}

fn check_slice(slice: Slice) -> Result<(), StoreError> {
    match slice.get() < SLICES.count() {
        true => Ok(()),
        false => Err(StoreError::invalid(format!("slice {slice} does not exist: the feed has one slice, 0"))),
    }
}

/// Returns the page with the commits in `rows`, the first of which contains the position after which to read. Returns
/// `None` if no commit contains it.
fn page_of(read: &FeedRead, rows: &[PgRow]) -> Result<Option<FeedPage>, Failed> {
    let mut places = rows.iter().map(Place::of).collect::<Result<Vec<_>, _>>()?.into_iter().peekable();
    let (mut through, mut anchor, mut entries, mut erased) = (read.after, None, Vec::new(), 0);
    if read.after > Position::NONE {
        let Some(holder) = places.peek() else { return Ok(None) };
        if let Some(expected) = read.anchor.filter(|expected| *expected != holder.anchor) {
            let replaced = FeedError::replaced(read.slice, read.after, expected, holder.anchor);
            return Err(StoreError::from(replaced).into());
        }
        anchor = Some(holder.anchor);
        if holder.last == read.after {
            places.next();
        }
    }
    let mut is_last = true;
    for place in places {
        if !place.fits {
            is_last = false;
            break;
        }
        match place.entry(read.slice) {
            Ok(entry) => {
                erased += read.filter.erased(&entry.stream, &entry.commit);
                if read.filter.takes_any(&entry.stream, &entry.commit) {
                    entries.push(entry);
                }
            }
            Err(_) if through > read.after => {
                is_last = false;
                break;
            }
            Err(error) => return Err(error),
        }
        (through, anchor) = (place.last, Some(place.anchor));
    }
    Ok(Some(FeedPage::new(entries, through, anchor, is_last, Cost::read(0.0)).with_erased(erased)))
}
