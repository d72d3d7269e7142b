//! The horizon of the feed: open transactions that hold it back, and databases that were restored.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use es_core::{StoreError, error_text};
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use super::FeedState;
use crate::database::{Database, Failed};

/// How long a transaction may hold back commits before a warning, and the time between warnings.
const PATIENCE: Duration = Duration::from_secs(10);

/// The oldest open transaction that has an id. Details of other users' sessions need the role `pg_monitor`.
const OLDEST: &str = "SELECT * FROM ( \
         SELECT pid, NULL AS gid, coalesce(application_name, '') AS application, coalesce(state, '') AS state, \
             extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds, age(backend_xid) AS age \
         FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() \
         UNION ALL \
         SELECT NULL, gid, '', 'prepared', extract(epoch FROM clock_timestamp() - prepared)::float8, age(transaction) \
         FROM pg_prepared_xacts \
     ) AS transactions ORDER BY age DESC LIMIT 1";

const WAITING: &str = "SELECT count(*) AS waiting FROM {schema}.commits WHERE tx >= ( \
         SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + tx_offset FROM {schema}.store)";

/// The commits that are not in the feed yet, because an older transaction is still open: see
/// [`PostgresStore::feed_delay`](crate::PostgresStore::feed_delay).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedDelay {
    /// The number of commits that wait.
    pub waiting: u64,
    /// The oldest open transaction of the server that can write, if there is one and the user may see it.
    pub oldest: Option<OpenTransaction>,
}

/// An open transaction that holds back the feed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OpenTransaction {
    /// The process id of its session; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The global id of a prepared transaction.
    pub gid: Option<String>,
    /// The name of the application that opened it.
    pub application: String,
    /// The state of its session, such as `idle in transaction`.
    pub state: String,
    /// How long it has been open.
    pub age: Duration,
}

impl fmt::Display for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.gid, self.pid) {
            (Some(gid), _) => write!(f, "the prepared transaction `{gid}`")?,
            (None, Some(pid)) => write!(f, "the session {pid} of `{}` ({})", self.application, self.state)?,
            (None, None) => f.write_str("a session")?,
        }
        write!(f, ", open for {:.1} s", self.age.as_secs_f64())
    }
}

/// The horizon as this process has seen it.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    held: Mutex<Option<Held>>,
}

/// A horizon behind which commits wait.
#[derive(Clone, Copy, Debug)]
struct Held {
    horizon: i64,
    since: Instant,
    warned: Option<Instant>,
}

impl Horizon {
    /// Records the horizon. Returns how long it has held back commits, and whether that is worth a warning now.
    fn observe(&self, horizon: i64, is_held: bool, now: Instant) -> (Duration, bool) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_held {
            *held = None;
            return (Duration::ZERO, false);
        }
        let known = held.filter(|held| held.horizon == horizon);
        let current = held.insert(known.unwrap_or(Held { horizon, since: now, warned: None }));
        let duration = now.duration_since(current.since);
        let is_due = now.duration_since(current.warned.unwrap_or(current.since)) >= PATIENCE;
        if is_due {
            current.warned = Some(now);
        }
        (duration, is_due)
    }
}

impl Database {
    /// Checks the row about the feed that comes with a page.
    pub(super) async fn observe(&self, state: &FeedState, about: &PgRow) -> Result<(), StoreError> {
        let numbers =
            (|| Ok((about.try_get("first")?, about.try_get("last")?, about.try_get::<bool, _>("fits")?)))();
        let (newest, horizon, is_held): (i64, i64, bool) =
            numbers.map_err(|error: sqlx::Error| Failed::from(error).of_read(self))?;
        if newest >= horizon {
            return Err(StoreError::setup(
                "the database was restored in another cluster, whose transaction ids are lower: stop all writers, and call \
                 `PostgresStore::migrate`",
                None,
            ));
        }
        let (held, is_due) = state.horizon.observe(horizon, is_held, Instant::now());
        #[cfg(feature = "metrics")]
        es_core::metrics::FEED_HELD.set([self.schema().to_owned().into()], held.as_secs_f64());
        if is_held {
            state.growth.retry_after(held);
        }
        if is_due {
            self.warn(held).await;
        }
        Ok(())
    }

    async fn warn(&self, held: Duration) {
        let held = held.as_secs_f64();
        match self.feed_delay().await {
            Ok(FeedDelay { waiting, oldest: Some(oldest) }) => tracing::warn!(
                schema = self.schema(),
                waiting,
                held,
                "an open transaction holds back the feed: {oldest}"
            ),
            Ok(FeedDelay { waiting, oldest: None }) => {
                tracing::warn!(
                    schema = self.schema(),
                    waiting,
                    held,
                    "an open transaction holds back the feed"
                );
            }
            Err(error) => tracing::warn!(
                schema = self.schema(),
                held,
                error = %error_text(&error),
                "an open transaction holds back the feed"
            ),
        }
    }

    pub(crate) async fn feed_delay(&self) -> Result<FeedDelay, StoreError> {
        let mut session = self.connect().await?;
        let waiting = self.within(sqlx::query(self.sql(WAITING)).fetch_one(session.connection())).await;
        let waiting = waiting.map_err(|failed| failed.of_read(self))?;
        let oldest = self.within(sqlx::query(OLDEST).fetch_optional(session.connection())).await;
        let oldest = oldest.map_err(|failed| failed.of_read(self))?;
        session.release();
        let delay = (|| {
            let waiting = waiting.try_get::<i64, _>("waiting")?.unsigned_abs();
            Ok(FeedDelay { waiting, oldest: oldest.as_ref().map(transaction_from).transpose()? })
        })();
        delay.map_err(|error: sqlx::Error| Failed::from(error).of_read(self))
    }
}

fn transaction_from(row: &PgRow) -> Result<OpenTransaction, sqlx::Error> {
    let seconds: Option<f64> = row.try_get("seconds")?;
    Ok(OpenTransaction {
        pid: row.try_get("pid")?,
        gid: row.try_get("gid")?,
        application: row.try_get("application")?,
        state: row.try_get("state")?,
        age: Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_that_stands_still_is_reported_from_time_to_time() {
        let (horizon, start) = (Horizon::default(), Instant::now());
        let observe = |horizon_at, is_held, seconds| {
            let now = start + Duration::from_secs(seconds);
            let (held, is_due) = horizon.observe(horizon_at, is_held, now);
            (held.as_secs(), is_due)
        };
        assert_eq!(observe(7, true, 0), (0, false));
        assert_eq!(observe(7, true, 9), (9, false));
        assert_eq!(observe(7, true, 10), (10, true));
        assert_eq!(observe(7, true, 15), (15, false), "reported 5 s ago");
        assert_eq!(observe(7, true, 20), (20, true));
        assert_eq!(observe(8, true, 25), (0, false), "it has moved");
        assert_eq!(observe(8, false, 40), (0, false), "nothing waits");
        assert_eq!(observe(8, true, 41), (0, false));
        assert_eq!(observe(8, true, 51), (10, true));
    }
}
