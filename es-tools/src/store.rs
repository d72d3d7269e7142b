//! The store that the tools operate, on any backend.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use es_core::StoreError;
use es_core::feed::{Feed, Position, Slice};
use es_core::personal::{Keyring, SealedStore};
use es_core::projection::{Registration, Stage};
use es_core::read_model::UntypedRows;
use es_core::store::StoredKey;
use es_dynamo::DynamoStore;
#[cfg(feature = "postgres")]
use es_postgres::{PostgresStore, SqlReadModel};
use futures_util::stream::BoxStream;
use serde_json::Value;
#[cfg(feature = "postgres")]
use serde_json::json;

use crate::failure::{Failure, Result};
#[cfg(feature = "postgres")]
use crate::output::counted;

/// A store that the tools operate: on Amazon DynamoDB, in an embedded file, or on PostgreSQL.
///
/// It is created from a [`DynamoStore`], or from an `es_postgres::PostgresStore` with the feature `postgres`.
#[derive(Clone)]
pub struct Store {
    feed: Arc<dyn Feed>,
    backend: Backend,
}

/// The store with its type, for what only one backend has.
#[derive(Clone)]
enum Backend {
    Dynamo(DynamoStore),
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
}

impl Store {
    /// Returns a handle for repositories and projectors.
    #[must_use]
    pub fn feed(&self) -> Arc<dyn Feed> {
        Arc::clone(&self.feed)
    }

    /// Returns the store on DynamoDB or in an embedded file, if it is one.
    #[must_use]
    pub fn dynamo(&self) -> Option<&DynamoStore> {
        match &self.backend {
            Backend::Dynamo(store) => Some(store),
            #[cfg(feature = "postgres")]
            Backend::Postgres(_) => None,
        }
    }

    /// Returns the store on PostgreSQL, if it is one.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres(&self) -> Option<&PostgresStore> {
        match &self.backend {
            Backend::Dynamo(_) => None,
            Backend::Postgres(store) => Some(store),
        }
    }

    /// Returns a handle that opens personal data.
    pub(crate) fn with_keyring(&self, keyring: impl Keyring) -> Self {
        Self { feed: Arc::new(SealedStore::new(self.feed(), keyring)), backend: self.backend.clone() }
    }

    /// Returns the store on DynamoDB, for a command without a counterpart on PostgreSQL.
    pub(crate) fn need_dynamo(&self, command: &str, reason: &str) -> Result<&DynamoStore> {
        self.dynamo().ok_or_else(|| Failure::of(format!("`{command}` is for DynamoDB: {reason}")))
    }

    /// Returns the kind and the name of the place of the events, such as `table` and `events`.
    pub(crate) fn place(&self) -> (&'static str, &str) {
        match &self.backend {
            Backend::Dynamo(store) => ("table", store.table_name()),
            #[cfg(feature = "postgres")]
            Backend::Postgres(store) => ("schema", store.schema()),
        }
    }
}

impl Store {
    /// Returns the current end of each slice of the feed, parents before children.
    pub(crate) async fn ends(&self) -> Result<Vec<(Slice, Position)>> {
        let mut ends = Vec::new();
        for slice in self.slice_tree().await?.iter() {
            ends.push((slice, self.feed_end(slice).await?.position));
        }
        Ok(ends)
    }

    /// Returns the read models of a projection, to delete their rows and tables.
    pub(crate) fn stored_models(&self, registration: &Registration) -> Vec<StoredModel> {
        let names = &registration.read_models;
        #[allow(unused_mut, reason = "PostgreSQL is optional")]
        let mut models: Vec<_> =
            names.iter().map(|name| StoredModel::Rows(UntypedRows::new(&self.feed, name))).collect();
        #[cfg(feature = "postgres")]
        if let Some(store) = self.postgres()
            && !names.is_empty()
        {
            // A projection without such tables has no schema, so that there is nothing to drop.
            models.push(StoredModel::Tables(SqlReadModel::named(store, &registration.name, "")));
        }
        models
    }

    /// Lists all claims and idempotency records.
    pub(crate) fn stored_keys(&self) -> BoxStream<'_, std::result::Result<StoredKey, StoreError>> {
        match &self.backend {
            Backend::Dynamo(store) => store.stored_keys(),
            #[cfg(feature = "postgres")]
            Backend::Postgres(store) => store.stored_keys(),
        }
    }
}

impl Store {
    /// Returns which transaction holds back how many commits, as JSON and as a text, if there are any.
    pub(crate) async fn feed_delay(&self) -> Result<Option<(Value, String)>> {
        #[cfg(feature = "postgres")]
        if let Some(store) = self.postgres() {
            let delay = store.feed_delay().await?;
            if delay.waiting == 0 {
                return Ok(None);
            }
            let oldest = delay.oldest.map_or("an open transaction".to_owned(), |oldest| oldest.to_string());
            let text = format!("{} held back by {oldest}", counted(delay.waiting, "commit"));
            return Ok(Some((json!({ "waiting": delay.waiting, "oldest": oldest }), text)));
        }
        Ok(None)
    }
}

/// A read model whose type is unknown: it can only be deleted.
#[derive(Clone, Debug)]
pub(crate) enum StoredModel {
    Rows(UntypedRows),
    #[cfg(feature = "postgres")]
    Tables(SqlReadModel),
}

impl StoredModel {
    /// Returns the number of rows that this handle and its clones have deleted, which is unknown for tables.
    pub(crate) fn deleted(&self) -> u64 {
        match self {
            Self::Rows(rows) => rows.deleted(),
            #[cfg(feature = "postgres")]
            Self::Tables(_) => 0,
        }
    }

    pub(crate) fn stage(&mut self) -> &mut dyn Stage {
        match self {
            Self::Rows(rows) => rows,
            #[cfg(feature = "postgres")]
            Self::Tables(tables) => tables,
        }
    }
}

impl Deref for Store {
    type Target = dyn Feed;

    fn deref(&self) -> &Self::Target {
        &*self.feed
    }
}

impl From<DynamoStore> for Store {
    fn from(store: DynamoStore) -> Self {
        Self { feed: Arc::new(store.clone()), backend: Backend::Dynamo(store) }
    }
}

#[cfg(feature = "postgres")]
impl From<PostgresStore> for Store {
    fn from(store: PostgresStore) -> Self {
        Self { feed: Arc::new(store.clone()), backend: Backend::Postgres(store) }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.feed.fmt(f)
    }
}
