//! The options of a store on PostgreSQL, and opening it.
//!
//! A password must not appear in the list of processes, in the history of a shell, or in logs. Therefore, the URL on
//! the command line must not have one, and no error contains the URL.

use clap::Args;
use es_postgres::PostgresStore;
use es_postgres::keyring::{LocalMasterKey, PostgresKeyring};
use es_postgres::sqlx::PgPool;
use es_postgres::sqlx::postgres::PgPoolOptions;

use crate::failure::{Failure, Result};

/// The variable with the URL, which may have a password.
const URL: &str = "ES_POSTGRES_URL";

/// The default schemas of a store and of a keyring.
const SCHEMA: &str = "es";
const KEYRING_SCHEMA: &str = "es_keys";

/// A schema of a database.
#[derive(Args, Debug, Default)]
pub(crate) struct Database {
    /// Use the PostgreSQL database at this URL, without a password, such as `postgres://user@localhost/shop`
    ///
    /// The password is taken from the environment variable `PGPASSWORD`, or from the file that `PGPASSFILE` names.
    /// Without an option that selects a store, the URL in the environment variable `ES_POSTGRES_URL` is used, which may
    /// contain one.
    #[arg(long = "postgres", id = "postgres", global = true, value_name = "URL")]
    #[arg(conflicts_with_all = ["file", "endpoint"])]
    url: Option<String>,

    /// The schema on PostgreSQL [default: es]
    #[arg(long, global = true, value_name = "NAME")]
    schema: Option<String>,
}

impl Database {
    /// Checks the options, and takes the URL from the environment unless an option selects a store.
    pub(crate) fn complete(&mut self, selects_dynamo: bool) -> std::result::Result<(), String> {
        if let Some(url) = &self.url {
            return check_url(url);
        }
        if !selects_dynamo {
            self.url = from_environment();
        }
        Ok(())
    }

    pub(crate) fn is_selected(&self) -> bool {
        self.url.is_some()
    }

    /// Opens the store, if it is on PostgreSQL.
    pub(crate) async fn open(&self) -> Result<Option<PostgresStore>> {
        match &self.url {
            Some(url) => Ok(Some(open(url, self.schema()).await?)),
            None => Ok(None),
        }
    }

    /// Opens the store, for a command that has no counterpart on DynamoDB.
    pub(crate) async fn need(&self, command: &str) -> Result<PostgresStore> {
        open(self.need_url(command)?, self.schema()).await
    }

    /// Opens the keyring, for such a command.
    pub(crate) async fn need_keyring(&self, command: &str) -> Result<PostgresKeyring> {
        self.keyring(PostgresStore::connect(self.need_url(command)?).await?.pool().clone())
    }

    fn need_url(&self, command: &str) -> Result<&str> {
        let missing = || Failure::of(format!("`{command}` is for PostgreSQL: pass --postgres, or set {URL}"));
        self.url.as_deref().ok_or_else(missing)
    }

    /// Opens the store at a URL on the command line, or at the URL in the environment, in a schema or in that of the
    /// options.
    pub(crate) async fn open_at(&self, url: Option<&str>, schema: Option<&str>) -> Result<PostgresStore> {
        let schema = schema.unwrap_or_else(|| self.schema());
        if let Some(url) = url {
            check_url(url).map_err(Failure::of)?;
            return open(url, schema).await;
        }
        let url = from_environment().ok_or_else(|| Failure::of(format!("{URL} is not set")))?;
        open(&url, schema).await
    }

    /// Returns a store that never connects, for the statements that create its schema.
    pub(crate) fn unconnected(&self) -> Result<PostgresStore> {
        Ok(PostgresStore::builder(unconnected()?).schema(self.schema()).build()?)
    }

    /// Returns a keyring that never connects, for the statements that create its schema.
    pub(crate) fn unconnected_keyring(&self) -> Result<PostgresKeyring> {
        self.keyring(unconnected()?)
    }

    fn schema(&self) -> &str {
        self.schema.as_deref().unwrap_or(SCHEMA)
    }

    /// Returns the keyring on a pool, for its schema only: this tool has no master key.
    fn keyring(&self, pool: PgPool) -> Result<PostgresKeyring> {
        let no_master_key = LocalMasterKey::new([0; 32]);
        let name = self.schema.as_deref().unwrap_or(KEYRING_SCHEMA);
        Ok(PostgresKeyring::builder(pool, no_master_key).schema(name).build()?)
    }
}

fn unconnected() -> Result<PgPool> {
    Ok(PgPoolOptions::new().connect_lazy("postgres://localhost")?)
}

fn from_environment() -> Option<String> {
    std::env::var(URL).ok().filter(|url| !url.is_empty())
}

/// Opens the store in `schema` of the database at `url`.
async fn open(url: &str, schema: &str) -> Result<PostgresStore> {
    let pool = PostgresStore::connect(url).await?.pool().clone();
    Ok(PostgresStore::builder(pool).schema(schema).max_payload_bytes(u64::MAX).build()?)
}

/// Checks a URL on the command line. Returns a text without the URL, because it may contain a password.
fn check_url(url: &str) -> std::result::Result<(), String> {
    if has_password(url) {
        return Err(format!(
            "the URL of the database contains a password, which the list of processes shows: set PGPASSWORD, or pass the \
             whole URL in {URL}"
        ));
    }
    Ok(())
}

/// Returns whether a URL contains a password. A malformed URL counts if it might.
fn has_password(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    let (_, parameters) = rest.split_once('?').unwrap_or_default();
    user.contains(':') || parameters.split('&').any(|parameter| parameter.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_found() {
        for url in [
            "postgres://user:secret@localhost/shop",
            "postgres://user:sec/r?et@localhost/shop",
            "postgres://:secret@localhost",
            "postgres://localhost/shop?sslmode=require&password=secret",
        ] {
            let refused = check_url(url).expect_err(url);
            assert!(!refused.contains("ecret") && !refused.contains("localhost"), "{refused}");
        }
        for url in ["postgres://user@localhost:5432/shop", "postgres://[::1]:5432/shop?host=/tmp"] {
            check_url(url).expect(url);
        }
    }
}
