//! The SQLite database behind an engine, and the two connections to it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynoxide::actions::transact_write_items::{
    TransactWriteItemsRequest as Request, TransactWriteItemsResponse as Response,
};
use dynoxide::{Database, DynoxideError};
use es_core::StoreError;
use event_listener::Event;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::failure::{Failure, open_error};
use super::tokens::Tokens;

/// The maximum time that the outbox waits for a lock of another process before it fails with a transient error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of threads that execute requests at the same time.
///
/// Requests take turns anyway, so that more threads would only wait. They would also occupy the threads that the
/// application needs for its own blocking work, and memory, which the allocator keeps for each thread.
const MAX_THREADS: u32 = 4;

/// The page size of a database in memory, in bytes.
///
/// SQLite keeps all pages of such a database in its page cache, and visits all of them in every commit that has split a
/// page. With the default of 4 KiB, this becomes the main cost of a command at about 100,000 commands. With eight times
/// larger pages, there are an eighth as many, and they are split an eighth as often.
const MEMORY_PAGE_SIZE: u32 = 32 * 1024;

/// The engine's database, with a second connection for the [outbox](super::outbox).
///
/// Requests and the second connection take turns. Otherwise, each would wait for the locks of the other inside SQLite,
/// which polls for them.
pub(crate) struct Storage {
    database: Database,
    turn: Mutex<Turn>,
    threads: Arc<Semaphore>,
    /// Notified after each request that may have written a commit.
    pub(crate) written: Event,
}

/// The resources that only one request at a time may use.
struct Turn {
    outbox: Connection,
    tokens: Tokens,
}

impl Storage {
    /// Opens a new database in memory.
    pub(crate) fn in_memory() -> Result<Arc<Self>, StoreError> {
        // Only the two connections know the name. The content is dropped with the last connection.
        let name = format!("file:es-{}?mode=memory&cache=shared", uuid::Uuid::new_v4());
        let opened = Self::open(&name, Some(MEMORY_PAGE_SIZE));
        let opened = opened.map_err(|error| StoreError::Backend(error.into()))?;
        Ok(Arc::new(opened))
    }

    /// Opens the database in a file, which is created if it does not exist.
    pub(crate) fn in_file(path: &Path) -> Result<Arc<Self>, StoreError> {
        let Some(text) = path.to_str() else {
            return Err(StoreError::invalid(format!("the path {} is not UTF-8", path.display())));
        };
        // SQLite interprets a name that starts with `file:` as a URI, and an empty name as a temporary database.
        let name = match path.is_relative() {
            true => format!("./{text}"),
            false => text.to_owned(),
        };
        let opened = Self::open(&name, None).map_err(|error| open_error(path, &error))?;
        Ok(Arc::new(opened))
    }

    fn open(name: &str, page_size: Option<u32>) -> Result<Self, DynoxideError> {
        let outbox = Connection::open(name)?;
        if let Some(bytes) = page_size {
            // The page size cannot be changed after the engine has created its tables.
            outbox.pragma_update(None, "page_size", bytes)?;
        }
        let database = Database::new(name)?;
        outbox.busy_timeout(BUSY_TIMEOUT)?;
        // Losing a removal from the outbox is harmless, so it does not have to wait for the disk.
        outbox.pragma_update(None, "synchronous", "NORMAL")?;
        let turn = Mutex::new(Turn { outbox, tokens: Tokens::default() });
        let threads = Arc::new(Semaphore::new(MAX_THREADS as usize));
        Ok(Self { database, turn, threads, written: Event::new() })
    }

    /// Executes a request.
    pub(crate) fn request<T>(&self, request: impl FnOnce(&Database) -> T) -> T {
        let _turn = self.turn();
        request(&self.database)
    }

    /// Executes a transaction, unless it was executed before.
    pub(crate) fn transact(&self, request: Request) -> Result<Response, DynoxideError> {
        self.turn().tokens.transact(request, |request| self.database.transact_write_items(request))
    }

    /// Runs `work` on a thread that may block, as soon as one of [`MAX_THREADS`] is free. Once it has begun, it runs to
    /// its end, even if the caller stops waiting.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let storage = Arc::clone(self);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        spawn_blocking(move || {
            let _permit = permit;
            work(&storage)
        })
        .await
    }

    /// Runs `work` on the second connection, on a thread that may block.
    pub(crate) async fn with_outbox<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.blocking(|storage| work(&mut storage.turn().outbox)).await {
            Ok(outcome) => outcome.map_err(|error| Failure::of(&error.to_string()).into_store_error()),
            Err(error) => Err(StoreError::unavailable(error)),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // A panic leaves no transaction open: they are rolled back when dropped.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn few_threads_serve_any_number_of_requests() {
        let storage = Storage::in_memory().expect("starts");
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            storage.blocking(move |_| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                running.fetch_sub(1, Ordering::SeqCst);
            })
        };
        // Callers that stop waiting, before and after their request has begun, leave no thread occupied.
        (0..2 * MAX_THREADS).for_each(|_| drop(work().now_or_never()));
        for done in join_all((0..100).map(|_| work())).await {
            done.expect("does not panic");
        }
        assert!(most.load(Ordering::SeqCst) <= MAX_THREADS as usize, "{most:?}");
        let all = storage.threads.acquire_many(MAX_THREADS);
        drop(timeout(Duration::from_secs(60), all).await.expect("are free").expect("is open"));
    }

    #[tokio::test]
    async fn a_database_in_memory_has_large_pages() {
        let storage = Storage::in_memory().expect("starts");
        let size = |connection: &mut Connection| {
            connection.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))
        };
        assert_eq!(storage.with_outbox(size).await.expect("is known"), MEMORY_PAGE_SIZE);
    }
}
