//! The table of the keys: one row per subject.

use std::fmt;

use async_trait::async_trait;
use es_core::StoreError;
use es_core::personal::{KeyRecord, KeyTable, Subject, WrappedKey};
use futures_core::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::database::{Database, Failed};

const READ: &str = "SELECT subject, wrapped, master_key FROM {schema}.keys WHERE subject = ANY($1)";

const LIST: &str =
    "SELECT subject, wrapped, master_key FROM {schema}.keys WHERE subject > $1 ORDER BY subject LIMIT 1000";

/// Waits for another transaction that inserts the row of the same subject.
const INSERT: &str = "INSERT INTO {schema}.keys (subject, wrapped, master_key) VALUES ($1, $2, $3) \
     ON CONFLICT (subject) DO NOTHING";

const REPLACE: &str =
    "UPDATE {schema}.keys SET wrapped = $3, master_key = $4 WHERE subject = $1 AND wrapped = $2";

const FORGET: &str = "INSERT INTO {schema}.keys AS stored (subject) VALUES ($1) \
     ON CONFLICT (subject) DO UPDATE SET wrapped = NULL, master_key = NULL WHERE stored.wrapped IS NOT NULL";

/// A table of keys.
pub(super) struct Table {
    pub(super) database: Database,
}

impl Table {
    /// Reads the records of distinct subjects with one statement.
    async fn records(&self, subjects: &[Subject]) -> Result<Vec<KeyRecord>, StoreError> {
        let subjects: Vec<&str> = subjects.iter().map(Subject::as_str).collect();
        let mut session = self.database.connect().await?;
        let query = sqlx::query(self.database.sql(READ)).bind(subjects);
        let rows = self.database.within(query.fetch_all(session.connection())).await;
        let rows = rows.map_err(|failed| failed.of_read(&self.database))?;
        session.release();
        self.decode(&rows)
    }

    /// Reads the records of the subjects after `subject`, in their order: those of a page.
    async fn records_after(&self, subject: &str) -> Result<Vec<KeyRecord>, StoreError> {
        let mut session = self.database.connect().await?;
        let query = sqlx::query(self.database.sql(LIST)).bind(subject);
        let rows = self.database.within(query.fetch_all(session.connection())).await;
        let rows = rows.map_err(|failed| failed.of_read(&self.database))?;
        session.release();
        self.decode(&rows)
    }

    fn decode(&self, rows: &[PgRow]) -> Result<Vec<KeyRecord>, StoreError> {
        let records = rows.iter().map(record_from).collect::<Result<_, _>>();
        records.map_err(|error| Failed::from(error).of_read(&self.database))
    }

    /// Executes a statement that changes the row of a subject, and returns whether it did.
    async fn change(
        &self,
        sql: &'static str,
        subject: &Subject,
        values: &[&str],
    ) -> Result<bool, StoreError> {
        let mut session = self.database.connect().await?;
        let query = sqlx::query(self.database.single_sql(sql)).bind(subject.as_str());
        let query = values.iter().fold(query, |query, value| query.bind(*value));
        let changed = self.database.execute_single(session.connection(), query).await;
        let changed = changed.map_err(|failed| failed.of_write(&self.database))?;
        session.release();
        Ok(changed == 1)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KeyTable for Table {
    const MAX_SUBJECTS: usize = 1_000;

    fn read<'a>(&'a self, subjects: &'a [Subject]) -> BoxStream<'a, Result<KeyRecord, StoreError>> {
        let records = self.records(subjects).into_stream();
        records.map_ok(|records| stream::iter(records.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn list(&self) -> BoxStream<'_, Result<KeyRecord, StoreError>> {
        let pages = stream::try_unfold(String::new(), async |after| {
            let records = self.records_after(&after).await?;
            let last = records.last().map(|record| record.subject.as_str().to_owned());
            Ok::<_, StoreError>(last.map(|last| (stream::iter(records.into_iter().map(Ok)), last)))
        });
        pages.try_flatten().boxed()
    }

    async fn insert(&self, subject: &Subject, key: &WrappedKey) -> Result<Option<KeyRecord>, StoreError> {
        if self.change(INSERT, subject, &[&key.text, &key.master_key]).await? {
            return Ok(None);
        }
        // The row was committed by another process, or by an earlier attempt without a response.
        let existing = self.records(std::slice::from_ref(subject)).await?;
        match existing.into_iter().next() {
            Some(existing) => Ok(Some(existing)),
            None => Err(StoreError::corrupt_item(
                format!("the key of the subject `{subject}`"),
                "its row was deleted: rows of the keys must never be deleted, not even tombstones",
            )),
        }
    }

    async fn replace(
        &self,
        subject: &Subject,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<bool, StoreError> {
        self.change(REPLACE, subject, &[&old.text, &new.text, &new.master_key]).await
    }

    async fn forget(&self, subject: &Subject) -> Result<(), StoreError> {
        self.change(FORGET, subject, &[]).await.map(drop)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.database.schema())
    }
}

/// Decodes a row. The table ensures that a key has both parts.
fn record_from(row: &PgRow) -> Result<KeyRecord, sqlx::Error> {
    let subject = Subject::from_stored(row.try_get::<String, _>("subject")?);
    let text: Option<String> = row.try_get("wrapped")?;
    let key = match text {
        Some(text) => Some(WrappedKey::new(text, row.try_get::<String, _>("master_key")?)),
        None => None,
    };
    Ok(KeyRecord::new(subject, key))
}
