//! Transactions that own their connection.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use es_core::StoreError;
use futures_util::{FutureExt, TryFutureExt};
use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use sqlx_core::transaction::TransactionManager;
use tokio::runtime::Handle;

use super::{Database, Failed, Session};

/// An open transaction of an [`SqlReadModel`](crate::SqlReadModel), which dereferences to its connection. It is rolled
/// back when it is dropped.
///
/// It is not a [`sqlx::Transaction`], which returns a connection to the pool in an open transaction if the future of its
/// `BEGIN` is dropped. Later statements of the pool on this connection would then succeed, and never be committed.
pub struct SqlTransaction {
    database: Arc<Database>,
    /// `None` after the end of the transaction. Dropping a session closes its connection.
    session: Option<Session>,
}

impl SqlTransaction {
    /// Begins a transaction with the statement `begin`, which may be followed by others.
    pub(crate) async fn begin(database: &Arc<Database>, begin: String) -> Result<Self, StoreError> {
        let mut session = database.connect().await?;
        let begun = session.connection.begin_with(AssertSqlSafe(begin)).map_err(Failed::of_begin);
        // Boxed, because the future of each handler contains it.
        let begun = database.within(begun.boxed()).await.map_err(|failed| failed.of_read(database))?;
        // From here on, this transaction ends it. The connection has counted it, so that `begin` creates a savepoint.
        std::mem::forget(begun);
        Ok(Self { database: Arc::clone(database), session: Some(session) })
    }

    pub(crate) async fn commit(mut self) -> Result<(), Failed> {
        let Some(mut session) = self.session.take() else { return Ok(()) };
        self.database.within(PgTransactionManager::commit(session.connection())).await?;
        session.release();
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> Result<(), Failed> {
        let Some(session) = self.session.take() else { return Ok(()) };
        roll_back(&self.database, session).await
    }
}

impl Deref for SqlTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.session.as_ref().expect(OPEN).connection
    }
}

impl DerefMut for SqlTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.session.as_mut().expect(OPEN).connection
    }
}

const OPEN: &str = "the functions that end a transaction take it";

impl Drop for SqlTransaction {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let database = Arc::clone(&self.database);
            // If this fails, the connection is closed.
            runtime.spawn(async move { roll_back(&database, session).await.ok() });
        }
    }
}

impl fmt::Debug for SqlTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlTransaction").finish_non_exhaustive()
    }
}

async fn roll_back(database: &Database, mut session: Session) -> Result<(), Failed> {
    database.within(PgTransactionManager::rollback(session.connection())).await?;
    session.release();
    Ok(())
}
