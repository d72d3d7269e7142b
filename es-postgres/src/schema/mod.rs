//! The schema of the database: printing, creating, migrating, and verifying it.

use es_core::StoreError;
use es_core::store::SetupKind;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::database::{Contents, Database, Failed};

/// The schema of a store.
pub(crate) const STORE: Contents = Contents {
    name: "event store",
    article: "an",
    migrate: "PostgresStore::migrate",
    migrations: &[include_str!("store/1.sql")],
    format_table: "store",
    has_feed: true,
};

/// The schema of a keyring.
pub(crate) const KEYRING: Contents = Contents {
    name: "keyring",
    article: "a",
    migrate: "PostgresKeyring::migrate",
    migrations: &[include_str!("keyring/1.sql")],
    format_table: "keyring",
    has_feed: false,
};

/// Creates the schema. A user who owns it may not be allowed to execute this.
const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS {schema};\n\n";

/// PostgreSQL 14, the first version that is supported.
const MIN_SERVER_VERSION: i32 = 140_000;

/// The key of the advisory lock that migrations of one schema take, so that only one of them runs.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('es-postgres ' || $1, 0))";

const SERVER: &str =
    "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')";

const SCHEMA: &str = "SELECT to_regnamespace($1) IS NOT NULL";

const FORMAT_TABLE: &str = "SELECT to_regclass($1) IS NOT NULL";

/// The last transaction in the feed, and the next one of this cluster.
const TRANSACTIONS: &str = "SELECT greatest((SELECT max(tx) FROM {schema}.commits), \
     (SELECT max(tx) FROM {schema}.feed_marks)) AS last, \
     pg_snapshot_xmax(pg_current_snapshot())::text::bigint + tx_offset AS next FROM {schema}.store";

/// Returns the statements that create the schema.
pub(crate) fn ddl(database: &Database) -> String {
    database.in_schema(&(CREATE_SCHEMA.to_owned() + &database.contents().migrations.join("\n")))
}

/// Returns the format of the schema that this version of the crate reads and writes.
fn current_format(database: &Database) -> i32 {
    database.contents().migrations.len() as i32
}

/// Creates the schema, or migrates it to the format of this version.
pub(crate) async fn migrate(database: &Database) -> Result<(), StoreError> {
    let mut session = database.connect().await?;
    let migration = async {
        let mut transaction = session.begin().await?;
        verify_server(&mut transaction).await?;
        let lock = sqlx::query(MIGRATION_LOCK).bind(database.schema());
        lock.execute(&mut *transaction).await?;
        if !exists(SCHEMA, database.in_schema("{schema}"), &mut transaction).await? {
            let sql = AssertSqlSafe(database.in_schema(CREATE_SCHEMA));
            sqlx::raw_sql(sql).execute(&mut *transaction).await?;
        }
        let format = format(database, &mut transaction).await?;
        if format > current_format(database) {
            return Err(newer(database, format).into());
        }
        for migration in &database.contents().migrations[format as usize..] {
            let sql = AssertSqlSafe(database.in_schema(migration));
            sqlx::raw_sql(sql).execute(&mut *transaction).await?;
        }
        if database.contents().has_feed {
            adopt_cluster(database, &mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    };
    migration.await.map_err(|failed: Failed| failed.of_write(database))?;
    session.release();
    Ok(())
}

/// Checks that the schema exists and has the format of this version.
pub(crate) async fn verify(database: &Database) -> Result<(), StoreError> {
    let mut session = database.connect().await?;
    let found = database.within(async {
        verify_server(session.connection()).await?;
        format(database, session.connection()).await
    });
    let format = found.await.map_err(|failed| failed.of_read(database))?;
    session.release();
    let (schema, current) = (database.schema(), current_format(database));
    let Contents { name, migrate, .. } = database.contents();
    let reason = match format {
        format if format == current => return Ok(()),
        format if format > current => return Err(newer(database, format)),
        0 => format!("the schema `{schema}` has no {name}: call `{migrate}`"),
        format => format!(
            "the schema `{schema}` has the format {format}, and this version needs the format {current}: call `{migrate}`"
        ),
    };
    Err(StoreError::setup_of(SetupKind::Storage, reason, None))
}

fn newer(database: &Database, format: i32) -> StoreError {
    StoreError::setup_of(
        SetupKind::Storage,
        format!(
            "the schema `{}` has the format {format}, and this version of es-postgres knows formats up to {}: use a newer \
             version",
            database.schema(),
            current_format(database)
        ),
        None,
    )
}

async fn verify_server(connection: &mut PgConnection) -> Result<(), Failed> {
    let server = sqlx::query(SERVER).fetch_one(connection).await?;
    let (version, encoding): (i32, String) = (server.try_get(0)?, server.try_get(1)?);
    if version < MIN_SERVER_VERSION {
        let reason = format!("the server has the version number {version}: use PostgreSQL 14 or later");
        return Err(StoreError::setup_of(SetupKind::Storage, reason, None).into());
    }
    if encoding != "UTF8" {
        let reason =
            format!("the database has the encoding {encoding}: create a database with `ENCODING 'UTF8'`");
        return Err(StoreError::setup_of(SetupKind::Storage, reason, None).into());
    }
    Ok(())
}

/// Returns whether the query `sql` finds the schema or the table with a name.
async fn exists(sql: &'static str, name: String, connection: &mut PgConnection) -> Result<bool, Failed> {
    Ok(sqlx::query(sql).bind(name).fetch_one(connection).await?.try_get(0)?)
}

/// Returns the format of the schema, or 0 if it does not exist.
async fn format(database: &Database, connection: &mut PgConnection) -> Result<i32, Failed> {
    let table = database.in_schema("{schema}.") + database.contents().format_table;
    if !exists(FORMAT_TABLE, table.clone(), connection).await? {
        return Ok(0);
    }
    let sql = AssertSqlSafe(format!("SELECT format FROM {table}"));
    Ok(sqlx::query(sql).fetch_one(connection).await?.try_get(0)?)
}

/// Continues the order of the feed in another cluster, whose transaction ids are lower than those that are stored.
async fn adopt_cluster(database: &Database, connection: &mut PgConnection) -> Result<(), Failed> {
    let sql = AssertSqlSafe(database.in_schema(TRANSACTIONS));
    let row: PgRow = sqlx::query(sql).fetch_one(&mut *connection).await?;
    let (last, next): (i64, i64) = (row.try_get("last")?, row.try_get("next")?);
    if last < next {
        return Ok(());
    }
    let sql = database.in_schema(
        "ALTER TABLE {schema}.commits ALTER COLUMN tx SET DEFAULT (pg_current_xact_id()::text::bigint + {offset}); \
         UPDATE {schema}.store SET tx_offset = {offset}",
    );
    let sql = AssertSqlSafe(sql.replace("{offset}", &(last + 1).to_string()));
    sqlx::raw_sql(sql).execute(connection).await?;
    tracing::info!(schema = database.schema(), "continued the feed in a restored database");
    Ok(())
}
