//! Snapshots: one row beside each stream.

use es_core::Cost;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::limits;
use es_core::{StoreError, StreamId, Version};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::row::number;
use super::version;
use crate::database::{Database, Failed};

const WRITE: &str = "INSERT INTO {schema}.snapshots AS stored (stream, version, at, fingerprint, checksum, state) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (stream) DO UPDATE SET version = excluded.version, at = excluded.at, \
         fingerprint = excluded.fingerprint, checksum = excluded.checksum, state = excluded.state \
     WHERE stored.version < excluded.version OR stored.version = $7";

/// A snapshot as it is stored.
pub(super) struct StoredSnapshot {
    pub(super) version: Version,
    /// `None` if it does not fit the stream or the fingerprint.
    snapshot: Option<Snapshot>,
}

impl StoredSnapshot {
    /// Returns the snapshot if its checksum is correct.
    pub(super) fn usable(self, fingerprint: Fingerprint) -> Option<Snapshot> {
        self.snapshot.filter(|snapshot| snapshot.fits(fingerprint))
    }

    /// Returns whether the commits were read after the snapshot.
    pub(super) fn is_followed(&self) -> bool {
        self.snapshot.is_some()
    }
}

/// Decodes a row whose state is missing if the snapshot does not fit.
pub(super) fn stored_from(row: &PgRow) -> Result<StoredSnapshot, Failed> {
    let version = version(row.try_get("last")?);
    let state: Option<String> = row.try_get("state")?;
    let snapshot = match state {
        None => None,
        Some(state) => {
            let fingerprint = Fingerprint::new(row.try_get::<i64, _>("fingerprint")?.cast_unsigned());
            // A checksum with more bits is wrong, so any other wrong one may take its place.
            let checksum = u32::try_from(row.try_get::<i64, _>("checksum")?).unwrap_or_default();
            Some(Snapshot::from_stored(version, row.try_get("at")?, fingerprint, state, checksum))
        }
    };
    Ok(StoredSnapshot { version, snapshot })
}

impl Database {
    pub(crate) async fn write_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        replaces: Option<Version>,
    ) -> Result<Cost, StoreError> {
        limits::check_snapshot(stream, snapshot, self.max_bytes)?;
        let mut session = self.connect().await?;
        let query = sqlx::query(self.single_sql(WRITE)).bind(stream.as_str());
        let query = query.bind(number(snapshot.version())).bind(snapshot.time());
        let query =
            query.bind(snapshot.fingerprint().get().cast_signed()).bind(i64::from(snapshot.checksum()));
        let query = query.bind(snapshot.state()).bind(replaces.map(number));
        let written = self.execute_single(session.connection(), query).await;
        written.map_err(|failed| failed.of_write(self))?;
        session.release();
        Ok(Cost::write(0.0))
    }
}
