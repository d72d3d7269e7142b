//! Read models in tables of the application, which are written in one transaction with the checkpoint.

use std::error::Error;
use std::fmt;
use std::future::ready;
use std::iter::successors;
use std::sync::{Arc, Mutex, PoisonError};

use es_core::StoreError;
use es_core::documents::{DocumentChange, Documents};
use es_core::projection::{BoxError, Projection, Stage};
use es_core::read_model::{Builds, ReadModelError};
use es_core::store::AdditionalWrite;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, PgConnection, Row, SqlSafeStr};

use crate::PostgresStore;
use crate::database::{Database, Failed, SqlTransaction, is_transient};

/// The name under which the read model is registered. A projection has one, because its checkpoint is part of one
/// transaction.
const NAME: &str = "sql";

/// The longest name of a schema, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// Serializes the creation of one schema.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('es-postgres ' || $1, 0))";

/// The schemas with a comment.
const WITH_COMMENT: &str =
    "SELECT nspname::text FROM pg_namespace WHERE obj_description(oid, 'pg_namespace') = $1 ORDER BY oid";

/// Finds a schema by its name, with its comment.
const FIND: &str =
    "SELECT obj_description(oid, 'pg_namespace') AS comment FROM pg_namespace WHERE nspname = $1";

/// A read model in tables of the application: the handlers of a projection write them with SQL, in one transaction with
/// the checkpoint, so that each event takes effect exactly once.
///
/// It is a field with `#[read_model]` of a projection. The projector's store must be the [`PostgresStore`] from which
/// the read model was created.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::read_model::ReadModelError;
/// use es_postgres::{PostgresStore, SqlReadModel, sqlx};
/// # #[event] pub struct Deposited { pub cents: u64 }
/// # #[derive(Aggregate, Debug, Default)]
/// # #[aggregate(name = "account", id = String, events(Deposited))]
/// # pub struct Account;
/// # #[handlers]
/// # impl Account { #[apply] fn deposited(&mut self, _: &Deposited) {} }
///
/// #[derive(Clone, Projection)]
/// #[projection(name = "balances", events(Account(Deposited)))]
/// struct Balances { #[read_model] tables: SqlReadModel }
///
/// impl Balances {
///     fn new(store: &PostgresStore) -> Self {
///         let tables = "CREATE TABLE balances (account text PRIMARY KEY, cents bigint NOT NULL)";
///         Self { tables: SqlReadModel::of::<Self>(store, tables) }
///     }
///
///     /// Returns the balance of an account, for the application.
///     async fn of(&self, account: &str) -> Result<Option<i64>, BoxError> {
///         let query = sqlx::query_scalar("SELECT cents FROM balances WHERE account = $1").bind(account);
///         Ok(query.fetch_optional(&mut *self.tables.read().await?).await?)
///     }
/// }
///
/// #[handlers]
/// impl Balances {
///     #[project]
///     async fn deposited(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
///         let add = "INSERT INTO balances VALUES ($1, $2) \
///                    ON CONFLICT (account) DO UPDATE SET cents = balances.cents + excluded.cents";
///         let query = sqlx::query(add).bind(ctx.id()).bind(event.cents as i64);
///         query.execute(self.tables.transaction().await?).await?;
///         Ok(())
///     }
/// }
/// ```
///
/// # Builds
///
/// Each build of the projection has a PostgreSQL schema for its tables, named after the schema of the store, the
/// projection, and the number of the build: `es_balances_1`. It is first in the `search_path` of
/// [`transaction`](Self::transaction) and [`read`](Self::read), so that statements name tables without a schema. During
/// a [rebuild](es_core::Projector::rebuild), the tables of the new build are filled beside those that readers use;
/// [`switch`](es_core::Projector::switch) changes the schema of the readers, and
/// [`delete_replaced`](es_core::Projector::delete_replaced) drops the old schema.
///
/// The schema of a build is created with its tables in the first transaction that uses it. To change the tables, change
/// their statements, and rebuild the projection. Tables in other schemas are shared by all builds: their handlers must
/// tolerate that a rebuild handles all events again.
///
/// # Failures
///
/// A transaction begins with the first event that uses it and ends with the checkpoint, after at most one
/// [batch](es_core::projection::ProjectorBuilder::batch) of events. If a handler fails, it is rolled back, and the
/// earlier events are handled again and committed without the failed one. A worker that has lost its lease rolls back.
/// Handlers must return the errors of their statements, because PostgreSQL rejects all statements after a failed one.
/// Lost connections, deadlocks, and other transient errors of PostgreSQL are retried until they pass, also as the
/// source of another error.
///
/// The transaction delays the feed while it is open, as any other does: keep handlers short. It occupies one connection
/// of the pool, which must have at least one more.
pub struct SqlReadModel {
    database: Arc<Database>,
    builds: Builds,
    tables: Arc<str>,
    /// The schema that is known to exist for readers.
    ready: Arc<Mutex<Option<String>>>,
    /// The state in a running projection.
    bound: Option<Bound>,
}

/// The state of a read model in a running projection.
struct Bound {
    schema: String,
    /// Whether the schema is known to exist.
    is_ready: bool,
    open: Option<SqlTransaction>,
    /// Whether a transaction is part of the checkpoint that is being written.
    is_committing: bool,
    is_lost: bool,
}

impl SqlReadModel {
    /// Returns the read model of the projection `P` in `store`. `tables` are the SQL statements that create its tables
    /// in an empty schema, separated by semicolons.
    ///
    /// Wrap a text that is not a literal in [`AssertSqlSafe`].
    #[must_use]
    pub fn of<P: Projection>(store: &PostgresStore, tables: impl SqlSafeStr) -> Self {
        Self::named(store, P::NAME, tables)
    }

    /// Returns the read model of the projection with the name `projection`: see [`of`](Self::of).
    #[must_use]
    pub fn named(store: &PostgresStore, projection: &str, tables: impl SqlSafeStr) -> Self {
        let documents: Arc<dyn Documents> = Arc::new(store.clone());
        Self {
            database: Arc::clone(store.database()),
            builds: Builds::new(documents, projection),
            tables: tables.into_sql_str().as_str().into(),
            ready: Arc::default(),
            bound: None,
        }
    }

    /// Returns the connection with the open transaction, in a handler. Its `search_path` begins with the schema of the
    /// build.
    ///
    /// Do not end the transaction: the checkpoint commits it. [`begin`](sqlx::Connection::begin) creates a savepoint.
    ///
    /// # Errors
    ///
    /// [`ReadModelError::NotInProjection`] outside a running projection. [`ReadModelError::Store`] if no connection is
    /// available, or if the schema cannot be created.
    pub async fn transaction(&mut self) -> Result<&mut PgConnection, ReadModelError> {
        let not_bound = || ReadModelError::not_in_projection(NAME);
        let bound = self.bound.as_ref().ok_or_else(not_bound)?;
        let opened = match bound.open {
            Some(_) => None,
            None => {
                let mut transaction = self.begin(&bound.schema, "READ WRITE").await?;
                if !bound.is_ready {
                    self.create(&mut transaction, &bound.schema).await?;
                }
                Some(transaction)
            }
        };
        let open = &mut self.bound.as_mut().ok_or_else(not_bound)?.open;
        if opened.is_some() {
            *open = opened;
        }
        Ok(open.as_mut().ok_or_else(not_bound)?)
    }

    /// Begins a read-only transaction, whose `search_path` begins with the schema of the active build. Drop it after
    /// the last query.
    ///
    /// # Errors
    ///
    /// [`ReadModelError`] if the active build cannot be determined, no connection is available, or the schema cannot be
    /// created.
    pub async fn read(&self) -> Result<SqlTransaction, ReadModelError> {
        let schema = self.schema().await?;
        if !self.is_ready(&schema) {
            // Before the first event is handled, readers find empty tables.
            let mut transaction = self.begin(&schema, "READ WRITE").await?;
            self.create(&mut transaction, &schema).await?;
            transaction.commit().await.map_err(|failed| failed.of_read(&self.database))?;
            *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(schema.clone());
        }
        Ok(self.begin(&schema, "READ ONLY").await?)
    }

    fn is_ready(&self, schema: &str) -> bool {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(schema)
    }

    /// Returns the name of the schema with the tables: in a running projection, of the build that it maintains, and
    /// otherwise of the active build.
    ///
    /// # Errors
    ///
    /// [`ReadModelError`] if the active build cannot be determined.
    pub async fn schema(&self) -> Result<String, ReadModelError> {
        match &self.bound {
            Some(bound) => Ok(bound.schema.clone()),
            None => Ok(self.schema_of(self.builds.projection(), self.builds.active().await?)),
        }
    }

    /// Begins a transaction in which tables without a schema are those of `schema`.
    async fn begin(&self, schema: &str, mode: &str) -> Result<SqlTransaction, StoreError> {
        SqlTransaction::begin(&self.database, begin_in(schema, mode)).await
    }

    fn schema_of(&self, projection: &str, build: u32) -> String {
        format!("{}_{projection}_{build}", self.database.schema())
    }

    /// Creates the schema and its tables in the open transaction, unless they exist.
    async fn create(&self, connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
        check_length(schema)?;
        let created = self.database.within(async {
            if self.is_ours(connection, schema).await? {
                return Ok(());
            }
            sqlx::query(LOCK).bind(schema).execute(&mut *connection).await?;
            // Another transaction may have created it.
            if self.is_ours(connection, schema).await? {
                return Ok(());
            }
            let create = format!(
                "CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS {comment}; {tables}",
                name = quoted(schema, '"'),
                comment = quoted(&self.comment(), '\''),
                tables = self.tables,
            );
            sqlx::raw_sql(AssertSqlSafe(create)).execute(connection).await?;
            Ok::<_, Failed>(())
        });
        created.await.map_err(|failed| match failed {
            Failed::Sql(error) if !is_transient(&error) => StoreError::invalid(format!(
                "the tables of the projection `{}` cannot be created in the schema `{schema}`: {error}",
                self.builds.projection()
            )),
            failed => failed.of_read(&self.database),
        })
    }

    /// Returns whether a schema exists.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if it has another content than the tables of this projection.
    async fn is_ours(&self, connection: &mut PgConnection, schema: &str) -> Result<bool, Failed> {
        let Some(found) = sqlx::query(FIND).bind(schema).fetch_optional(connection).await? else {
            return Ok(false);
        };
        match found.try_get::<Option<&str>, _>("comment")? {
            Some(comment) if comment == self.comment() => Ok(true),
            _ => Err(StoreError::invalid(format!(
                "the schema `{schema}` exists, and does not have the tables of the projection `{}`: rename the schema or the \
                 projection",
                self.builds.projection()
            ))
            .into()),
        }
    }

    /// Returns the comment by which a schema is recognized.
    fn comment(&self) -> String {
        comment(self.builds.projection(), &self.database)
    }

    async fn drop_schema(&self, schema: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin(schema, "READ WRITE").await?;
        let dropped = self.database.within(async {
            if self.is_ours(&mut transaction, schema).await? {
                let drop = format!("DROP SCHEMA {} CASCADE", quoted(schema, '"'));
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        });
        dropped.await.map_err(|failed| failed.of_read(&self.database))
    }
}

impl Stage for SqlReadModel {
    fn name(&self) -> &str {
        NAME
    }

    fn bind(&mut self, projection: &str, build: u32) {
        let schema = self.schema_of(projection, build);
        self.bound =
            Some(Bound { schema, is_ready: false, open: None, is_committing: false, is_lost: false });
    }

    fn keep(&mut self) {}

    /// A savepoint for each event would undo only the last one, at the price of a round trip for every event.
    fn undo(&mut self) {
        if let Some(bound) = &mut self.bound {
            bound.is_lost = bound.open.take().is_some();
        }
    }

    fn is_lost(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.is_lost)
    }

    fn is_transient(&self, error: &(dyn Error + 'static)) -> bool {
        let mut chain = successors(Some(error), |&error| error.source());
        chain.find_map(|error| error.downcast_ref()).is_some_and(is_transient)
    }

    /// Counts the transaction as one item of the checkpoint.
    fn most_changes(&self) -> usize {
        1
    }

    fn most_bytes(&self) -> u64 {
        0
    }

    fn changes(&mut self) -> BoxFuture<'_, Result<Vec<DocumentChange>, BoxError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn transaction(&mut self) -> Option<AdditionalWrite> {
        let bound = self.bound.as_mut()?;
        let open = bound.open.take()?;
        bound.is_committing = true;
        Some(AdditionalWrite::new(OpenTransaction {
            database: Arc::clone(&self.database),
            transaction: Mutex::new(Some(open)),
        }))
    }

    fn delete<'a>(&'a self, projection: &'a str, build: u32) -> BoxFuture<'a, Result<(), BoxError>> {
        let schema = self.schema_of(projection, build);
        async move { Ok(self.drop_schema(&schema).await?) }.boxed()
    }

    fn forget(&mut self) {
        if let Some(bound) = &mut self.bound {
            // A transaction that has created the schema is committed. A checkpoint may also be without one.
            bound.is_ready |= std::mem::take(&mut bound.is_committing);
        }
    }
}

impl Clone for SqlReadModel {
    /// Returns a handle to the same tables. An open transaction stays with the original.
    fn clone(&self) -> Self {
        Self {
            database: Arc::clone(&self.database),
            builds: self.builds.clone(),
            tables: Arc::clone(&self.tables),
            ready: Arc::clone(&self.ready),
            bound: None,
        }
    }
}

impl fmt::Debug for SqlReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlReadModel").field("projection", &self.builds.projection()).finish_non_exhaustive()
    }
}

/// The transaction of a projection's handlers, handed to the checkpoint.
pub(crate) struct OpenTransaction {
    database: Arc<Database>,
    /// `None` after an attempt to commit it.
    transaction: Mutex<Option<SqlTransaction>>,
}

impl OpenTransaction {
    /// Returns the transaction among the additional writes of a checkpoint.
    pub(crate) fn among(writes: &[AdditionalWrite]) -> Option<&Self> {
        writes.iter().find_map(AdditionalWrite::downcast_ref)
    }

    /// Takes the transaction, unless it was taken before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if it belongs to another store.
    pub(crate) fn take(&self, database: &Database) -> Result<Option<SqlTransaction>, StoreError> {
        if !std::ptr::eq(&*self.database, database) {
            return Err(StoreError::invalid(
                "the tables of a projection and its checkpoints are in different stores: run the projector on the store, or a \
                 clone of it, from which the `SqlReadModel` was created",
            ));
        }
        Ok(self.transaction.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

/// Returns the statements that begin a transaction in which tables without a schema are those of `schema`. They take
/// one round trip.
fn begin_in(schema: &str, mode: &str) -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED {mode}; SELECT set_config('search_path', \
         concat_ws(', ', {}, nullif(current_setting('search_path'), '')), true)",
        quoted(&quoted(schema, '"'), '\'')
    )
}

/// Returns the comment on the schemas of a projection.
fn comment(projection: &str, database: &Database) -> String {
    format!("projection {projection} in {}", database.schema())
}

impl Database {
    /// Returns the schemas with the tables of a projection, in the order in which they were created.
    pub(crate) async fn projection_schemas(&self, projection: &str) -> Result<Vec<String>, StoreError> {
        let mut session = self.connect().await?;
        let query = sqlx::query_scalar(WITH_COMMENT).bind(comment(projection, self));
        let schemas = self.within(query.fetch_all(session.connection())).await;
        let schemas = schemas.map_err(|failed| failed.of_read(self))?;
        session.release();
        Ok(schemas)
    }
}

/// Returns an identifier or a literal for a statement.
fn quoted(text: &str, quote: char) -> String {
    format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")))
}

fn check_length(schema: &str) -> Result<(), StoreError> {
    match schema.len() {
        ..=MAX_NAME_BYTES => Ok(()),
        length => Err(StoreError::invalid(format!(
            "the schema `{schema}` of a projection would have a name of {length} bytes, and the limit is {MAX_NAME_BYTES}: \
             use a shorter name for the projection or the schema of the store"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("es_a_1", '"'), r#""es_a_1""#);
        let begin = begin_in(r#"es_o'clock"_1"#, "READ ONLY");
        assert!(begin.contains(r#"'"es_o''clock""_1"'"#), "{begin}");
    }

    #[test]
    fn long_names_are_rejected() {
        check_length(&"x".repeat(63)).expect("fits");
        check_length(&"x".repeat(64)).expect_err("would be truncated");
    }
}
