//! The growth of the feed: its readers learn of the commits of this process at once, and of those of other processes
//! by `NOTIFY`.
//!
//! While a transaction with a `NOTIFY` commits, it holds a lock that makes all others with a `NOTIFY` wait. So no
//! append contains one: a task notifies after the appends, at most once in 20 ms. If a notification is lost, commits
//! only arrive later, because readers also poll.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use es_core::{RetryPolicy, error_text};
use event_listener::Event;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use crate::database::{Database, Failed};

/// The channel of the notifications of all schemas of a database. Payloads are the schema and the sender.
const CHANNEL: &str = "es_feed";

/// The minimum time between two notifications.
const PACE: Duration = Duration::from_millis(20);

/// How soon to wake readers again while an open transaction holds back commits, at first and at most.
const HELD_RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// How long a connection may receive nothing before it is checked.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// How long to wait before the connection is opened again, at first and at most.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// The number of attempts to open the connection after which a warning is logged.
const WARNED_FAILURE: u32 = 5;

/// Wakes the readers of the feed.
pub(crate) struct Growth {
    grown: Arc<Event>,
    /// Whether processes notify each other.
    is_notified: bool,
    /// Names this store in notifications, to ignore those that it sent.
    sender: Uuid,
    sending: Arc<Pacer>,
    receiving: Wake,
    retrying: Wake,
    listener: Mutex<Option<AbortHandle>>,
}

impl Growth {
    pub(crate) fn new(is_notified: bool) -> Self {
        let grown = Arc::default();
        Self {
            receiving: Wake { grown: Arc::clone(&grown), pacer: Arc::default() },
            retrying: Wake { grown: Arc::clone(&grown), pacer: Arc::default() },
            grown,
            is_notified,
            sender: Uuid::new_v4(),
            sending: Arc::default(),
            listener: Mutex::default(),
        }
    }

    /// Wakes the readers of this process now, and those of other processes soon.
    pub(crate) fn grown(&self, database: &Arc<Database>) {
        self.grown.notify(usize::MAX);
        if self.is_notified {
            self.sending.run_after(Duration::ZERO, notify(Arc::clone(database), self.sender));
        }
    }

    /// Wakes the readers of this process soon: commits wait for an older transaction, since `held` as far as is known.
    pub(super) fn retry_after(&self, held: Duration) {
        let (first, longest) = HELD_RETRY;
        self.retrying.after((held / 2).clamp(first, longest));
    }

    /// Resolves when the feed may have grown. The first call opens the connection that receives notifications.
    pub(crate) fn listen(&self, database: &Arc<Database>) -> BoxFuture<'static, ()> {
        let grown = self.grown.listen();
        if self.is_notified
            && let Ok(runtime) = Handle::try_current()
        {
            let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
            // It is finished if its runtime has ended.
            if listener.as_ref().is_none_or(AbortHandle::is_finished) {
                let task = receive_until_closed(Arc::clone(database), self.sender, self.receiving.clone());
                *listener = Some(runtime.spawn(task).abort_handle());
            }
        }
        grown.boxed()
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        let listener = self.listener.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = listener.take() {
            task.abort();
        }
    }
}

/// Runs a task at most once in [`PACE`], for any number of calls.
#[derive(Default)]
struct Pacer {
    is_scheduled: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Pacer {
    /// Runs `work` after `delay`, unless a run is scheduled already.
    fn run_after(self: &Arc<Self>, delay: Duration, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_scheduled.swap(true, Ordering::SeqCst) {
            return;
        }
        let scheduled = Scheduled(Arc::clone(self));
        runtime.spawn(async move {
            sleep_until(scheduled.0.next(delay)).await;
            // Whatever happens from now on needs another run.
            drop(scheduled);
            work.await;
        });
    }

    fn next(&self, delay: Duration) -> Instant {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let soonest = Instant::now() + delay;
        let next = last.map_or(soonest, |last| soonest.max(last + PACE));
        *last = Some(next);
        next
    }
}

/// A scheduled run, which ends when it begins to work, or with its runtime.
struct Scheduled(Arc<Pacer>);

impl Drop for Scheduled {
    fn drop(&mut self) {
        self.0.is_scheduled.store(false, Ordering::SeqCst);
    }
}

/// Notifies other processes.
async fn notify(database: Arc<Database>, sender: Uuid) {
    let sent = async {
        let mut session = database.connect().await?;
        let query = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL);
        let query = query.bind(format!("{} {sender}", database.schema()));
        database.within(query.execute(session.connection())).await?;
        session.release();
        Ok::<_, Failed>(())
    };
    if let Err(failed) = sent.await {
        let error = failed.of_read(&database);
        tracing::debug!(schema = database.schema(), error = %error_text(&error), "could not notify readers of the feed");
    }
}

/// Wakes the readers of this process.
#[derive(Clone)]
struct Wake {
    grown: Arc<Event>,
    pacer: Arc<Pacer>,
}

impl Wake {
    fn after(&self, delay: Duration) {
        let grown = Arc::clone(&self.grown);
        self.pacer.run_after(delay, async move {
            grown.notify(usize::MAX);
        });
    }
}

/// Receives notifications until the task is aborted, or the pool of the store is closed.
async fn receive_until_closed(database: Arc<Database>, own: Uuid, wake: Wake) {
    let mut closed = database.pool().close_event();
    // The error says that the pool is closed.
    let _ = closed.do_until(receive_always(Arc::clone(&database), own, wake)).await;
}

/// Receives notifications on new connections after failures.
async fn receive_always(database: Arc<Database>, own: Uuid, wake: Wake) {
    let (first, longest) = RECONNECT;
    let retry = RetryPolicy::default().with_base_delay(first).with_max_delay(longest);
    let mut failures = 0;
    loop {
        let failed = match connect(&database).await {
            Ok(listener) => {
                failures = 0;
                receive(&database, listener, own, &wake).await
            }
            Err(failed) => {
                failures += 1;
                failed
            }
        };
        let (schema, error) = (database.schema(), failed.of_read(&database));
        let error = error_text(&error);
        match failures {
            WARNED_FAILURE => tracing::warn!(
                schema,
                %error,
                "cannot listen for commits of other processes: readers of the feed find them when they poll"
            ),
            _ => tracing::debug!(schema, %error, "stopped listening for commits of other processes"),
        }
        sleep(retry.equal_jitter_delay_after(failures.max(1))).await;
    }
}

/// Opens the connection for notifications. It is not one of the pool, which may have few of them.
async fn connect(database: &Database) -> Result<PgListener, Failed> {
    let options = PgConnectOptions::clone(&database.pool().connect_options());
    let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_lazy_with(options);
    let mut listener = database.within(PgListener::connect_with(&pool)).await?;
    listener.eager_reconnect(false);
    database.within(listener.listen(CHANNEL)).await?;
    Ok(listener)
}

/// Receives notifications until the connection ends, and returns why it has ended.
async fn receive(database: &Database, mut listener: PgListener, own: Uuid, wake: &Wake) -> Failed {
    // The feed may have grown while nothing was listening.
    wake.after(Duration::ZERO);
    loop {
        match timeout(HEARTBEAT, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                if is_of_others(notification.payload(), database.schema(), own) {
                    wake.after(Duration::ZERO);
                }
            }
            Ok(Ok(None)) => return sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()).into(),
            Ok(Err(error)) => return error.into(),
            // A connection that a firewall has dropped does not report its end.
            Err(_) => {
                if let Err(failed) = database.within(listener.execute("SELECT 1")).await {
                    return failed;
                }
            }
        }
    }
}

fn is_of_others(payload: &str, schema: &str, own: Uuid) -> bool {
    payload
        .split_once(' ')
        .is_some_and(|(of, sender)| of == schema && sender.parse::<Uuid>().ok() != Some(own))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_calls_share_a_run_and_each_is_followed_by_one() {
        let (pacer, runs) = (Arc::new(Pacer::default()), Arc::new(AtomicUsize::new(0)));
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let seen = runs.load(Ordering::SeqCst);
            for _ in 0..random.usize(1..5) {
                let runs = Arc::clone(&runs);
                pacer.run_after(Duration::ZERO, async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                });
            }
            sleep(PACE + Duration::from_millis(1)).await;
            assert!(runs.load(Ordering::SeqCst) > seen);
            sleep(Duration::from_millis(random.u64(0..30))).await;
        }
        assert_eq!(runs.load(Ordering::SeqCst), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn runs_keep_their_pace() {
        let (pacer, times) = (Arc::new(Pacer::default()), Arc::new(Mutex::new(Vec::new())));
        for _ in 0..1_000 {
            let times = Arc::clone(&times);
            pacer.run_after(Duration::ZERO, async move {
                times.lock().expect("not poisoned").push(Instant::now());
            });
            sleep(Duration::from_millis(1)).await;
        }
        let times = times.lock().expect("not poisoned");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= PACE), "{times:?}");
        assert!(times.len() >= 40, "{}", times.len());
    }

    #[test]
    fn a_run_that_ends_with_its_runtime_does_not_prevent_others() {
        let (pacer, runs) = (Arc::new(Pacer::default()), Arc::new(AtomicUsize::new(0)));
        let run_after = |delay| {
            let runs = Arc::clone(&runs);
            pacer.run_after(delay, async move {
                runs.fetch_add(1, Ordering::SeqCst);
            });
        };
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime().block_on(async { run_after(Duration::from_millis(1)) });
        runtime().block_on(async {
            run_after(Duration::ZERO);
            while runs.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn notifications_of_other_schemas_and_of_this_store_are_ignored() {
        let (own, other) = (Uuid::new_v4(), Uuid::new_v4());
        let takes = |payload: String| is_of_others(&payload, "es", own);
        assert!(takes(format!("es {other}")));
        assert!(!takes(format!("es {own}")));
        assert!(!takes(format!("es2 {other}")));
        assert!(!takes("es".to_owned()) && !takes(String::new()));
    }
}
