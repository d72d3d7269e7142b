//! Erasing the content of a deleted stream.

use es_core::store::erased_event;
use es_core::{Cost, StoreError, StreamId, Version};
use sqlx::postgres::PgConnection;

use super::row::{encode_events, number};
use crate::database::{Database, Failed};

/// Replaces each event of the commits before the last one.
const ERASE_COMMITS: &str = "UPDATE {schema}.commits SET metadata = NULL, bytes = 0, \
         events = ('[' || repeat($3 || ',', (last - first)::integer) || $3 || ']')::json \
     WHERE stream = $1 AND first < $2";

const DELETE_CLAIMS: &str = "DELETE FROM {schema}.claims WHERE stream = $1";

const DELETE_RECORDS: &str = "DELETE FROM {schema}.idempotency WHERE stream = $1";

/// Replaces the snapshot by one whose version keeps every other from being written.
const FENCE_SNAPSHOTS: &str = "INSERT INTO {schema}.snapshots (stream, version, at, fingerprint, checksum, state) \
     VALUES ($1, $2, '1970-01-01Z', 0, -1, '') ON CONFLICT (stream) DO UPDATE SET version = excluded.version, \
         at = excluded.at, fingerprint = excluded.fingerprint, checksum = excluded.checksum, state = excluded.state";

impl Database {
    /// Erases the content of a deleted stream in one transaction.
    pub(crate) async fn erase(&self, stream: &StreamId) -> Result<Cost, StoreError> {
        let head = self.head(stream).await?;
        head.check_erasable(stream)?;
        let mut session = self.connect().await?;
        let begun = self.within(session.begin()).await;
        let mut transaction = begun.map_err(|failed| failed.of_read(self))?;
        let erased = self.erase_before(&mut transaction, stream, head.version).await;
        erased.map_err(|failed| failed.of_read(self))?;
        self.within(transaction.commit()).await.map_err(|failed| failed.of_write(self))?;
        session.release();
        Ok(head.cost + Cost::write(0.0))
    }

    async fn erase_before(
        &self,
        connection: &mut PgConnection,
        stream: &StreamId,
        last: Version,
    ) -> Result<(), Failed> {
        let events = encode_events(&[erased_event()])?;
        let event = events.trim_start_matches('[').trim_end_matches(']');
        let query = sqlx::query(self.sql(ERASE_COMMITS)).bind(stream.as_str()).bind(number(last)).bind(event);
        self.within(query.execute(&mut *connection)).await?;
        for sql in [DELETE_CLAIMS, DELETE_RECORDS] {
            self.within(sqlx::query(self.sql(sql)).bind(stream.as_str()).execute(&mut *connection)).await?;
        }
        let query = sqlx::query(self.sql(FENCE_SNAPSHOTS)).bind(stream.as_str()).bind(number(Version::MAX));
        self.within(query.execute(connection)).await?;
        Ok(())
    }
}
