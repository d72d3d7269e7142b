//! Projections into tables of the application: each event takes effect once, whatever happens to connections and
//! workers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use es_core::StreamId;
use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::projection::{OnFailure, ProjectorBuilder, WaitError};
use es_core::read_model::ReadModelError;
use es_core::repository::RetryPolicy;
use es_core::testing::{Faults, FaultyStore};
use es_postgres::sqlx::{self, AssertSqlSafe, Connection, PgPool};
use es_postgres::{PostgresStore, SqlReadModel};
use es_tests::domain::{Account, Deposit, Deposited, Withdraw, Withdrawn};
use fastrand::Rng;
use futures_util::stream::{self, StreamExt};
use tokio::sync::Semaphore;

/// The number of seeded runs.
const RUNS: u64 = 40;

/// The lease of workers that lose requests, which they send again after a third of it.
pub(crate) const LEASE: Duration = Duration::from_millis(150);

/// The maximum time to wait for a projection.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The tables. No constraint prevents that an event takes effect twice.
const TABLES: &str = "CREATE TABLE effects (n serial, position bigint NOT NULL); \
     CREATE TABLE balances (account text PRIMARY KEY, cents bigint NOT NULL)";

/// Records each event, and adds up balances.
#[derive(Clone, Projection)]
#[projection(name = "effects", events(Account(Deposited, Withdrawn)))]
pub(crate) struct Effects {
    #[read_model]
    tables: SqlReadModel,
    pool: PgPool,
    trouble: Arc<Trouble>,
}

/// What happens in the handlers.
#[derive(Default)]
pub(crate) struct Trouble {
    /// Handlers that kill their connection, fail, or panic at random, as long as there is one.
    random: Mutex<Option<Rng>>,
    /// The number of handlers whose connection is killed, before others are disturbed.
    kills: AtomicU64,
    /// Whether withdrawals fail after their effects.
    withdrawals_fail: AtomicBool,
    /// Whether the error of a withdrawal's statement is ignored.
    errors_are_ignored: AtomicBool,
    /// Holds back handlers after their effects.
    gate: Option<Semaphore>,
    /// Called after the effects of each event.
    after_effects: Option<Box<dyn Fn() + Send + Sync>>,
    handled: AtomicU64,
}

/// What happens to one event.
#[derive(Clone, Copy, PartialEq)]
enum Mishap {
    None,
    /// Its connection is killed in the middle.
    Killed,
    /// Its connection is killed at the end, which only the next event or the checkpoint notices.
    Broken,
    Failed,
    Panicked,
}

impl Trouble {
    /// Disturbs no handler, and calls `call` after the effects of each event.
    pub(crate) fn after_effects(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self { after_effects: Some(Box::new(call)), ..Self::default() }
    }

    fn next(&self) -> Mishap {
        let killed = self.kills.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if killed.is_ok() {
            return Mishap::Killed;
        }
        let mut random = self.random.lock().expect("no panic");
        match random.as_mut().map_or(100, |random| random.u32(..100)) {
            0..5 => Mishap::Killed,
            5..8 => Mishap::Broken,
            8..12 => Mishap::Failed,
            12..14 => Mishap::Panicked,
            _ => Mishap::None,
        }
    }
}

impl Effects {
    pub(crate) fn new(store: &PostgresStore, trouble: Trouble) -> Self {
        let (tables, pool) = (SqlReadModel::of::<Self>(store, TABLES), store.pool().clone());
        Self { tables, pool, trouble: Arc::new(trouble) }
    }

    async fn record(&mut self, ctx: &EventContext, cents: i64) -> Result<(), BoxError> {
        let mishap = self.trouble.next();
        let db = self.tables.transaction().await?;
        let position = ctx.position().get() as i64;
        sqlx::query("INSERT INTO effects (position) VALUES ($1)").bind(position).execute(&mut *db).await?;
        if mishap == Mishap::Killed {
            sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())").execute(&mut *db).await?;
        }
        // A savepoint of the handler.
        let mut nested = db.begin().await?;
        let add = "INSERT INTO balances VALUES ($1, $2) \
                   ON CONFLICT (account) DO UPDATE SET cents = balances.cents + excluded.cents";
        sqlx::query(add).bind(ctx.id()).bind(cents).execute(&mut *nested).await?;
        nested.commit().await?;
        self.trouble.handled.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.trouble.gate {
            gate.acquire().await?.forget();
        }
        if let Some(call) = &self.trouble.after_effects {
            call();
        }
        match mishap {
            Mishap::Failed => Err("it fails at random".into()),
            Mishap::Panicked => panic!("it panics at random"),
            Mishap::None | Mishap::Killed => Ok(()),
            Mishap::Broken => {
                let pid = sqlx::query_scalar("SELECT pg_backend_pid()");
                let pid: i32 = pid.fetch_one(self.tables.transaction().await?).await?;
                let kill = sqlx::query("SELECT pg_terminate_backend($1, 10000)").bind(pid);
                kill.execute(&self.pool).await?;
                Ok(())
            }
        }
    }

    /// Waits until this number of handlers have made their changes.
    async fn wait_for_handlers(&self, number: u64) {
        let started = Instant::now();
        while self.trouble.handled.load(Ordering::SeqCst) < number {
            assert!(started.elapsed() < MAX_WAIT, "handler {number} does not run");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn positions(&self) -> Vec<i64> {
        let query = sqlx::query_scalar("SELECT position FROM effects ORDER BY n");
        query.fetch_all(&mut *self.tables.read().await.expect("reads")).await.expect("reads")
    }

    async fn balance(&self, account: &str) -> Option<i64> {
        let query = sqlx::query_scalar("SELECT cents FROM balances WHERE account = $1").bind(account);
        query.fetch_optional(&mut *self.tables.read().await.expect("reads")).await.expect("reads")
    }
}

#[handlers]
impl Effects {
    #[project]
    async fn deposited(&mut self, event: &Deposited, ctx: &EventContext) -> Result<(), BoxError> {
        self.record(ctx, event.cents as i64).await
    }

    #[project]
    async fn withdrawn(&mut self, event: &Withdrawn, ctx: &EventContext) -> Result<(), BoxError> {
        self.record(ctx, -(event.cents as i64)).await?;
        if self.trouble.errors_are_ignored.load(Ordering::SeqCst) {
            let _ = sqlx::query("SELECT 1 / 0").execute(self.tables.transaction().await?).await;
        }
        match self.trouble.withdrawals_fail.load(Ordering::SeqCst) {
            true => Err("withdrawals fail".into()),
            false => Ok(()),
        }
    }
}

fn quick() -> RetryPolicy {
    let delays = RetryPolicy::default().with_base_delay(Duration::from_millis(1));
    delays.with_max_delay(Duration::from_millis(5)).with_max_attempts(3)
}

pub(crate) fn builder(store: impl Feed, effects: &Effects) -> ProjectorBuilder<Effects> {
    Projector::builder(store, effects.clone()).poll(Duration::from_millis(5)).retry(quick())
}

/// Waits until a projection has handled the last version of an account.
pub(crate) async fn wait_for(
    projector: &Projector<Effects>,
    store: &PostgresStore,
    id: &str,
) -> Result<(), WaitError> {
    let stream = StreamId::new("account", id).expect("valid");
    let accounts: Repository<Account> = Repository::new(store.clone());
    let version = accounts.version(&id.to_owned()).await.expect("is known");
    projector.wait_for(&stream, version, MAX_WAIT).await
}

/// Runs a projector until an account is handled. The projector does not run again.
async fn run_for(projector: &Projector<Effects>, store: &PostgresStore, id: &str) -> Result<(), WaitError> {
    let worker = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run().await }
    });
    let waited = wait_for(projector, store, id).await;
    projector.shutdown();
    worker.await.expect("no panic").expect("stops");
    waited
}

pub(crate) async fn deposit(store: &PostgresStore, id: &str, cents: u64) {
    let accounts: Repository<Account> = Repository::new(store.clone());
    accounts.execute(&id.to_owned(), Deposit::one(cents, "a note")).await.expect("is accepted");
}

async fn withdraw(store: &PostgresStore, id: &str, cents: u64) {
    let accounts: Repository<Account> = Repository::new(store.clone());
    accounts.execute(&id.to_owned(), Withdraw { cents }).await.expect("is accepted");
}

/// Connections that are killed in the middle of a batch, handlers that fail or panic, and checkpoints whose request or
/// response is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn each_event_takes_effect_once_under_faults() {
    let runs = stream::iter(0..RUNS).map(run).buffer_unordered(10);
    let repeated: i64 = runs.collect::<Vec<_>>().await.into_iter().sum();
    assert!(repeated > RUNS as i64, "few events were handled again ({repeated}): the faults do not happen");
}

/// Runs one seed, and returns how many handled events were handled again.
async fn run(seed: u64) -> i64 {
    let store = crate::store().await;
    let mut random = Rng::with_seed(seed);
    let (mut balance, events) = (0, random.i64(5..40));
    for _ in 0..events {
        let cents = random.u64(1..100);
        deposit(&store, "ann", cents).await;
        balance += cents as i64;
    }
    let trouble = Trouble { random: Mutex::new(Some(random.fork())), ..Trouble::default() };
    let effects = Effects::new(&store, trouble);
    let faults = Faults::seeded(seed).lost_requests(0.05).lost_answers(0.1).throttling(0.05);
    let faulty = FaultyStore::new(store.clone(), faults);
    let policy = quick().with_max_attempts(100);
    let projector = builder(faulty, &effects).batch(random.u32(1..15)).retry(policy).lease(LEASE).build();
    run_for(&projector, &store, "ann").await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_eq!(effects.positions().await, (1..=events).collect::<Vec<_>>(), "seed {seed}");
    assert_eq!(effects.balance("ann").await, Some(balance), "seed {seed}");
    store.pool().close().await;
    effects.trouble.handled.load(Ordering::SeqCst) as i64 - events
}

/// A worker that is replaced while its transaction is open cannot commit it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_worker_without_its_lease_rolls_back() {
    let store = crate::store().await;
    deposit(&store, "ann", 5).await;
    let slow = Effects::new(&store, Trouble { gate: Some(Semaphore::new(0)), ..Trouble::default() });
    // The tables exist, so that the transactions do not wait for each other.
    assert_eq!(slow.positions().await, [0; 0]);
    let replaced = builder(store.clone(), &slow).lease(LEASE).build();
    let stalled = tokio::spawn({
        let replaced = replaced.clone();
        async move { replaced.run().await }
    });
    slow.wait_for_handlers(1).await;
    stalled.abort();
    let _ = stalled.await;
    assert_eq!(slow.positions().await, [0; 0], "the transaction is not committed");

    // An abort has the effect of a crash. The transaction of a process that only hangs stays open instead: it is
    // simulated by a change of the lease by another worker, below its feet.
    let slow = Effects::new(&store, Trouble { gate: Some(Semaphore::new(0)), ..Trouble::default() });
    let hanging = builder(store.clone(), &slow).lease(LEASE).build();
    let worker = tokio::spawn({
        let hanging = hanging.clone();
        async move { hanging.run().await }
    });
    slow.wait_for_handlers(1).await;
    let documents = crate::table(&store, "documents");
    let take = format!(
        "UPDATE {documents} SET revision = gen_random_uuid() WHERE collection LIKE '%effects%' AND body LIKE '%position%'"
    );
    let taken = sqlx::query(AssertSqlSafe(take)).execute(store.pool()).await.expect("takes");
    assert_eq!(taken.rows_affected(), 1, "one document is the lease of the slice");
    let gate = slow.trouble.gate.as_ref().expect("is there");
    gate.add_permits(1);
    // The worker takes the slice again, and the next transaction counts.
    slow.wait_for_handlers(2).await;
    assert_eq!(slow.positions().await, [0; 0], "the first transaction is rolled back");
    gate.add_permits(10);
    wait_for(&hanging, &store, "ann").await.expect("is handled");
    hanging.shutdown();
    worker.await.expect("no panic").expect("stops");
    assert_eq!((slow.positions().await, slow.balance("ann").await), (vec![1], Some(5)));
}

/// The first checkpoint may be without a transaction, such as one that parks the first event.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn tables_are_created_after_a_checkpoint_without_a_transaction() {
    let store = crate::store().await;
    withdraw(&store, "ann", 0).await;
    deposit(&store, "bob", 2).await;
    let effects = Effects::new(&store, Trouble::default());
    effects.trouble.withdrawals_fail.store(true, Ordering::SeqCst);
    // Another attempt would create the tables.
    let projector = builder(store.clone(), &effects).batch(1).retry(RetryPolicy::never());
    let projector = projector.on_failure(OnFailure::Park).build();
    run_for(&projector, &store, "bob").await.expect("is handled");
    assert_eq!(projector.parked().await.expect("lists").len(), 1);
    assert_eq!(effects.balance("bob").await, Some(2));
}

/// A failed event takes no effect, and the events around it take effect once.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_failed_event_is_undone_parked_and_replayed() {
    let store = crate::store().await;
    deposit(&store, "ann", 50).await;
    deposit(&store, "bob", 1).await;
    withdraw(&store, "ann", 20).await;
    deposit(&store, "bob", 2).await;
    let effects = Effects::new(&store, Trouble::default());
    effects.trouble.withdrawals_fail.store(true, Ordering::SeqCst);
    let projector = builder(store.clone(), &effects).build();
    let stopped = run_for(&projector, &store, "bob").await.expect_err("stops");
    assert!(stopped.to_string().contains("withdrawals fail"), "{stopped}");
    assert_eq!((effects.positions().await, effects.balance("ann").await), (vec![1, 2], Some(50)));

    let projector = builder(store.clone(), &effects).on_failure(OnFailure::Park).build();
    projector.retry(es_core::feed::Slice::new(0)).await.expect("has stopped");
    run_for(&projector, &store, "bob").await.expect("passes the event");
    assert_eq!((effects.positions().await, effects.balance("bob").await), (vec![1, 2, 4], Some(3)));
    effects.trouble.withdrawals_fail.store(false, Ordering::SeqCst);
    projector.replay_parked().await.expect("is accepted");
    builder(store.clone(), &effects).build().run_until_caught_up().await.expect("runs");
    assert_eq!((effects.positions().await, effects.balance("ann").await), (vec![1, 2, 4, 3], Some(30)));
}

/// The event waits until the connection works again, however often that takes.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn lost_connections_are_no_failures_of_an_event() {
    let store = crate::store().await;
    deposit(&store, "ann", 50).await;
    let effects = Effects::new(&store, Trouble { kills: AtomicU64::new(10), ..Trouble::default() });
    let projector = builder(store.clone(), &effects).retry(quick().with_max_attempts(2)).build();
    run_for(&projector, &store, "ann").await.expect("is handled");
    assert_eq!((effects.positions().await, effects.trouble.kills.load(Ordering::SeqCst)), (vec![1], 0));
}

/// PostgreSQL ignores all statements after a failed one. A handler that hides this must not lose the batch.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn an_ignored_error_stops_the_slice() {
    let store = crate::store().await;
    deposit(&store, "ann", 50).await;
    withdraw(&store, "ann", 20).await;
    let effects = Effects::new(&store, Trouble::default());
    effects.trouble.errors_are_ignored.store(true, Ordering::SeqCst);
    let projector = builder(store.clone(), &effects).build();
    let stopped = run_for(&projector, &store, "ann").await.expect_err("stops");
    assert!(stopped.to_string().contains("return it from the handler"), "{stopped}");
    assert_eq!(effects.positions().await, [0; 0]);
}

/// Readers use the tables of one build, while those of the next are filled.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_rebuild_fills_other_tables_until_the_switch() {
    let store = crate::store().await;
    deposit(&store, "ann", 50).await;
    let effects = Effects::new(&store, Trouble::default());
    assert_eq!(effects.balance("ann").await, None, "there are tables before the first event");
    let projector = builder(store.clone(), &effects).build();
    run_for(&projector, &store, "ann").await.expect("is handled");
    let old = effects.tables.schema().await.expect("is known");
    assert_eq!(old, format!("{}_effects_1", store.schema()));
    // The rebuild has to remove this row.
    let stray = format!("INSERT INTO {old}.balances VALUES ('eve', 7)");
    sqlx::raw_sql(AssertSqlSafe(stray)).execute(store.pool()).await.expect("inserts");

    projector.rebuild().await.expect("begins");
    projector.run_until_caught_up().await.expect("runs");
    assert_eq!(effects.balance("eve").await, Some(7), "readers use the active build");
    projector.switch().await.expect("switches");
    let new = format!("{}_effects_2", store.schema());
    assert_eq!(store.projection_schemas("effects").await.expect("reads"), [old.clone(), new]);
    assert_eq!(store.projection_schemas("effect").await.expect("reads"), [""; 0]);
    // A new handle has no cached build.
    let reader = Effects::new(&store, Trouble::default());
    assert_eq!((reader.balance("eve").await, reader.balance("ann").await), (None, Some(50)));
    assert_eq!(reader.positions().await, [1]);
    projector.delete_replaced().await.expect("deletes");
    assert!(!exists(&store, &old).await && exists(&store, &format!("{}_effects_2", store.schema())).await);
}

async fn exists(store: &PostgresStore, schema: &str) -> bool {
    let query = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL").bind(schema);
    query.fetch_one(store.pool()).await.expect("reads")
}

/// A schema with other content is neither filled nor dropped.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_schema_of_others_is_left_alone() {
    let store = crate::store().await;
    deposit(&store, "ann", 50).await;
    let schema = format!("{}_effects_1", store.schema());
    let create = format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.balances (account text)");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(store.pool()).await.expect("creates");
    let effects = Effects::new(&store, Trouble::default());
    let projector = builder(store.clone(), &effects).build();
    let stopped = run_for(&projector, &store, "ann").await.expect_err("stops");
    assert!(stopped.to_string().contains("rename the schema or the projection"), "{stopped}");
    let error = effects.tables.read().await.expect_err("is not ours");
    assert!(matches!(error, ReadModelError::Store(_)), "{error}");
    projector.reset().await.expect("begins another build");
    projector.delete_replaced().await.expect_err("would drop it");
    assert!(exists(&store, &schema).await);
}

/// Outside of a projector, there is no transaction.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_transaction_needs_a_projector_on_the_store() {
    let store = crate::store().await;
    deposit(&store, "ann", 50).await;
    let mut effects = Effects::new(&store, Trouble::default());
    let error = effects.tables.transaction().await.expect_err("has no build");
    assert!(matches!(error, ReadModelError::NotInProjection { .. }), "{error}");

    let beside = PostgresStore::builder(store.pool().clone()).schema(store.schema()).build().expect("valid");
    let projector = builder(beside, &effects).build();
    let stopped = run_for(&projector, &store, "ann").await.expect_err("stops");
    assert!(stopped.to_string().contains("a clone of it"), "{stopped}");
    assert_eq!(effects.positions().await, [0; 0]);
}
