//! The outbox: the commits of a table that are not in the feed yet.
//!
//! A trigger adds each commit in the transaction that stores it, in every process. An indexer removes the commits that
//! are in the feed. Therefore, no commit is lost if a process dies in between, and checking for remaining commits is
//! one query of a table that is usually empty. The table has no stream, because the engine keeps all records of a
//! stream, and reads them in every write.

use std::fmt;
use std::sync::Arc;

use es_core::StoreError;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::storage::Storage;
use crate::table::names;
#[cfg(feature = "indexer")]
use event_listener::EventListener;

/// The size in bytes of the commits at which a read ends.
#[cfg(feature = "indexer")]
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The prefix that the engine adds to keys of type S.
const TEXT_KEY: &str = "S:";

/// The outbox of one table.
#[derive(Clone)]
pub(crate) struct Outbox {
    storage: Arc<Storage>,
    table: String,
}

/// Commits that may not be in the feed yet, oldest first.
#[cfg(feature = "indexer")]
#[derive(Debug, Default)]
pub(crate) struct Unindexed {
    /// The partition and the JSON of each commit's item.
    pub(crate) commits: Vec<(String, String)>,
    /// The number of the last commit.
    pub(crate) last: i64,
    /// When the first commit was written, in milliseconds since 1970.
    pub(crate) since: Option<i64>,
}

impl Outbox {
    pub(crate) fn new(storage: Arc<Storage>, table: String) -> Self {
        Self { storage, table }
    }

    /// Creates the outbox with all commits of the table, unless it exists.
    pub(crate) async fn create(&self) -> Result<(), StoreError> {
        let sql = Sql::of(&self.table);
        self.storage
            .with_outbox(move |connection| {
                if sql.is_created(connection)? {
                    return Ok(());
                }
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                // Another process may have been faster.
                if !sql.is_created(&transaction)? {
                    transaction.execute_batch(&sql.create())?;
                }
                transaction.commit()
            })
            .await
    }

    /// Returns whether commits are added to the outbox.
    pub(crate) async fn is_created(&self) -> Result<bool, StoreError> {
        let sql = Sql::of(&self.table);
        self.storage.with_outbox(move |connection| sql.is_created(connection)).await
    }

    /// Completes after a request of this process that may have written a commit.
    #[cfg(feature = "indexer")]
    pub(crate) fn written(&self) -> EventListener {
        self.storage.written.listen()
    }

    /// Returns whether the outbox is empty.
    #[cfg(feature = "indexer")]
    pub(crate) async fn is_empty(&self) -> Result<bool, StoreError> {
        let query = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", Sql::of(&self.table).outbox);
        self.storage
            .with_outbox(move |connection| connection.prepare_cached(&query)?.query_row([], |row| row.get(0)))
            .await
    }

    /// Returns at most `limit` commits, oldest first.
    #[cfg(feature = "indexer")]
    pub(crate) async fn read(&self, limit: usize) -> Result<Unindexed, StoreError> {
        let query = Sql::of(&self.table).read();
        self.storage
            .with_outbox(move |connection| {
                let mut unindexed = Unindexed::default();
                let mut bytes = 0;
                let mut statement = connection.prepare_cached(&query)?;
                let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
                while bytes < MAX_BYTES
                    && let Some(row) = rows.next()?
                {
                    unindexed.last = row.get(0)?;
                    let written: i64 = row.get(1)?;
                    unindexed.since.get_or_insert(written);
                    let partition = row.get_ref(2)?.as_str()?;
                    let item = row.get_ref(3)?.as_str_or_null()?.unwrap_or_default();
                    bytes += item.len();
                    let partition = partition.strip_prefix(TEXT_KEY).unwrap_or(partition);
                    unindexed.commits.push((partition.to_owned(), item.to_owned()));
                }
                Ok(unindexed)
            })
            .await
    }

    /// Removes the commits up to the one with the number `last`.
    #[cfg(feature = "indexer")]
    pub(crate) async fn remove(&self, last: i64) -> Result<(), StoreError> {
        let delete = format!("DELETE FROM {} WHERE n <= ?1", Sql::of(&self.table).outbox);
        self.storage
            .with_outbox(move |connection| connection.prepare_cached(&delete)?.execute([last]).map(drop))
            .await
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("table", &self.table).finish_non_exhaustive()
    }
}

/// The SQL statements for one table. Names with `::`, which the engine also uses, are not allowed for tables of
/// DynamoDB.
struct Sql {
    table: String,
    outbox: String,
    trigger: String,
}

impl Sql {
    fn of(table: &str) -> Self {
        Self {
            table: format!("\"{table}\""),
            outbox: format!("\"{table}::outbox\""),
            trigger: format!("\"{table}::outbox::insert\""),
        }
    }

    /// Returns the condition that the row `row` is a commit.
    fn is_commit(row: &str) -> String {
        let prefix = names::COMMIT_PREFIX;
        let length = TEXT_KEY.len() + prefix.len();
        format!(
            "substr({row}.sk, 1, {length}) = '{TEXT_KEY}{prefix}' AND substr({row}.pk, 1, 3) <> '{TEXT_KEY}$'"
        )
    }

    fn trigger(&self) -> String {
        let Self { table, outbox, trigger } = self;
        let is_commit = Self::is_commit("NEW");
        format!(
            "CREATE TRIGGER {trigger} AFTER INSERT ON {table} WHEN {is_commit} \
             BEGIN INSERT INTO {outbox} (pk, sk) VALUES (NEW.pk, NEW.sk); END"
        )
    }

    /// Returns the statements that create the outbox. Numbers are never reused, so that no unread commit is removed.
    fn create(&self) -> String {
        let Self { table, outbox, trigger } = self;
        let (create_trigger, is_commit) = (self.trigger(), Self::is_commit("item"));
        format!(
            "DROP TRIGGER IF EXISTS {trigger};
             DROP TABLE IF EXISTS {outbox};
             CREATE TABLE {outbox} (
                 n INTEGER PRIMARY KEY AUTOINCREMENT,
                 pk TEXT NOT NULL,
                 sk TEXT NOT NULL,
                 at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
             );
             INSERT INTO {outbox} (pk, sk) SELECT pk, sk FROM {table} AS item WHERE {is_commit} ORDER BY rowid;
             {create_trigger};"
        )
    }

    fn is_created(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let name = self.trigger.trim_matches('"');
        let query = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1";
        let found: Option<String> = connection.query_row(query, [name], |row| row.get(0)).optional()?;
        Ok(found == Some(self.trigger()))
    }

    #[cfg(feature = "indexer")]
    fn read(&self) -> String {
        let Self { table, outbox, .. } = self;
        format!(
            "SELECT entry.n, entry.at, entry.pk, item.item_json FROM {outbox} AS entry \
             LEFT JOIN {table} AS item ON item.pk = entry.pk AND item.sk = entry.sk ORDER BY entry.n LIMIT ?1"
        )
    }
}

#[cfg(test)]
mod tests {
    use es_core::event::EventData;
    use es_core::store::{Append, NewCommit};
    use es_core::{EventStore, ExpectedVersion, StreamId};

    use super::*;
    use crate::embedded::Engine;

    fn append(number: usize) -> Append {
        let stream = StreamId::new("order", number).expect("valid");
        let id = uuid::Uuid::new_v4().to_string().parse().expect("a UUID");
        let events = vec![EventData::new("Placed", 1, format!("{{\"note\":\"{}\"}}", "x".repeat(1_000)))];
        Append::new(stream, ExpectedVersion::NoStream, NewCommit::new(id, chrono::Utc::now(), events))
    }

    async fn count(engine: &Engine, table: &'static str) -> u64 {
        let query = format!("SELECT count(*) FROM \"{table}\"");
        let count = move |connection: &mut Connection| connection.query_row(&query, [], |row| row.get(0));
        engine.storage.with_outbox(count).await.expect("counts")
    }

    #[tokio::test]
    async fn contains_only_commits() {
        let engine = Engine::in_memory().expect("starts");
        let store = engine.store().await.expect("creates");
        assert_eq!(count(&engine, "events::outbox").await, 0, "the settings of the feed are not a commit");
        for number in 0..5 {
            store.append(&append(number)).await.expect("appends");
            store.append(&append(number)).await.expect_err("conflicts");
        }
        assert_eq!(count(&engine, "events::outbox").await, 5);
        assert_eq!(count(&engine, "_stream_records").await, 0, "a write reads all of them");
        let outbox = engine.outbox("events");
        let read = outbox.read(3).await.expect("reads");
        assert_eq!((read.commits.len(), read.last), (3, 3));
        outbox.remove(read.last).await.expect("removes");
        outbox.create().await.expect("is there already");
        let rest = outbox.read(3).await.expect("reads");
        assert_eq!((rest.commits.len(), rest.last), (2, 5));
        outbox.remove(rest.last).await.expect("removes");
        // If numbers were reused, a slower reader could remove a commit that it has not read.
        store.append(&append(9)).await.expect("appends");
        assert_eq!(outbox.read(3).await.expect("reads").last, 6);
    }

    /// Both connections share the database in memory, and therefore the limit that one of them sets.
    #[tokio::test]
    async fn a_full_disk_is_reported_until_there_is_space() {
        let engine = Engine::in_memory().expect("starts");
        let store = engine.store().await.expect("creates");
        let limit = async |pages: u64| {
            let set = move |connection: &mut Connection| {
                connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            };
            engine.storage.with_outbox(set).await.expect("sets");
        };
        limit(1).await;
        let mut stored = 0;
        let error = loop {
            match store.append(&append(stored)).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        let text = es_core::error_text(&error);
        assert!(text.contains("free space") && text.contains("disk is full"), "{text}");
        assert!(!error.is_retryable(), "{error:?}");
        assert_eq!(count(&engine, "events::outbox").await, stored as u64, "both or neither");
        limit(1_000_000).await;
        store.append(&append(stored)).await.expect("has space");
    }
}
