//! The SQLite database behind an engine, and the two connections to it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynoxide::{Database, DynoxideError};
use es_core::StoreError;
use event_listener::Event;
use rusqlite::Connection;

use super::failure::{Failure, open_error};

/// How long the outbox waits for a lock that another process holds, before the request is repeated later.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The engine's database, with a second connection for the [outbox](super::outbox).
///
/// Requests and the second connection take turns. Without that, each would wait for the other's locks inside
/// SQLite, which polls for them.
pub(super) struct Storage {
    database: Database,
    outbox: Mutex<Connection>,
    /// Notified after each request that may have written a commit.
    pub(super) written: Event,
}

impl Storage {
    /// Opens a new database in memory.
    pub(super) fn in_memory() -> Result<Arc<Self>, StoreError> {
        // A name that only the two connections know. The content goes with the last of them.
        let name = format!("file:es-{}?mode=memory&cache=shared", uuid::Uuid::new_v4());
        let opened = Self::open(&name).map_err(|error| StoreError::Backend(error.into()))?;
        Ok(Arc::new(opened))
    }

    /// Opens the database in a file, which is created if it does not exist.
    pub(super) fn in_file(path: &Path) -> Result<Arc<Self>, StoreError> {
        let Some(text) = path.to_str() else {
            return Err(StoreError::invalid(format!("the path {} is not UTF-8", path.display())));
        };
        // SQLite takes a name that starts with `file:` for a URI, and an empty one for a temporary database.
        let name = match path.is_relative() {
            true => format!("./{text}"),
            false => text.to_owned(),
        };
        let opened = Self::open(&name).map_err(|error| open_error(path, &error))?;
        Ok(Arc::new(opened))
    }

    fn open(name: &str) -> Result<Self, DynoxideError> {
        let database = Database::new(name)?;
        let outbox = Connection::open(name)?;
        outbox.busy_timeout(BUSY_TIMEOUT)?;
        // To lose a removal from the outbox is harmless, so it need not wait for the disk.
        outbox.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self { database, outbox: Mutex::new(outbox), written: Event::new() })
    }

    /// Carries out a request.
    pub(super) fn request<T>(&self, request: impl FnOnce(&Database) -> T) -> T {
        let _turn = self.turn();
        request(&self.database)
    }

    /// Runs `work` on the second connection, on a thread that may block.
    pub(super) async fn with_outbox<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let storage = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&mut storage.turn()));
        match done.await {
            Ok(outcome) => outcome.map_err(|error| Failure::of(&error.to_string()).into_store_error()),
            Err(error) => Err(StoreError::unavailable(error)),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Connection> {
        // A panic leaves no transaction open: they are rolled back when dropped.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
