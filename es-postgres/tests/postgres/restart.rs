//! A server that restarts, in order and after crashes, while clients and a projection work, and as a standby server:
//! `just test-postgres` runs these tests on a separate server. They fail if acknowledged events do not survive a crash,
//! as with `synchronous_commit = off`. Lost responses are tested in `cuts`, at every message.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_core::{Repository, StoreError, Transaction};
use es_postgres::sqlx::{self, AssertSqlSafe};
use es_tests::domain::{Account, Deposit};
use futures_util::future::join_all;
use tokio::sync::Mutex;

use crate::sql_projections::{Effects, Trouble, builder, wait_for};

/// The variable that names the program that restarts the server; its argument is the mode of `pg_ctl`.
const RESTART: &str = "ES_POSTGRES_RESTART";

const CLIENTS: u64 = 8;

/// The tests restart the same server, so they run one after another.
static SERVER: Mutex<()> = Mutex::const_new(());

/// Restarts the server.
async fn restart(mode: &'static str) {
    let program =
        std::env::var(RESTART).unwrap_or_else(|_| panic!("{RESTART} is not set by `scripts/postgres`"));
    let restarted = tokio::task::spawn_blocking(move || Command::new(program).arg(mode).status());
    assert!(restarted.await.expect("no panic").expect("runs").success(), "the server restarts ({mode})");
}

/// Deposits until `is_over`, and then some more. Returns the notes of the deposits that were acknowledged, and of the
/// others.
async fn client(
    accounts: Repository<Account>,
    account: String,
    is_over: Arc<AtomicBool>,
) -> (Vec<String>, Vec<String>) {
    let (mut acknowledged, mut failed, mut left) = (Vec::new(), Vec::new(), 20);
    while left > 0 {
        left -= u32::from(is_over.load(Ordering::SeqCst));
        let note = format!("deposit {}", acknowledged.len() + failed.len());
        match accounts.execute(&account, Deposit::one(1, &note)).await {
            Ok(_) => acknowledged.push(note),
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                failed.push(note);
            }
        }
    }
    (acknowledged, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a separate PostgreSQL server"]
async fn nothing_is_lost_and_nothing_is_applied_twice() {
    let _server = SERVER.lock().await;
    let store = crate::store().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let effects = Effects::new(&store, Trouble::default());
    let projector = builder(store.clone(), &effects).lease(Duration::from_secs(2)).build();
    let worker = tokio::spawn({
        let projector = projector.clone();
        async move { projector.run().await }
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|number| {
        tokio::spawn(client(accounts.clone(), format!("client {number}"), Arc::clone(&is_over)))
    });
    let clients: Vec<_> = clients.collect();
    for mode in ["fast", "immediate", "fast"] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        restart(mode).await;
    }
    is_over.store(true, Ordering::SeqCst);

    let mut events = 0;
    for (number, ended) in join_all(clients).await.into_iter().enumerate() {
        let (acknowledged, failed) = ended.expect("no panic");
        let account = format!("client {number}");
        let notes = accounts.load(&account).await.expect("loads").state.notes.clone();
        for note in &acknowledged {
            assert_eq!(notes.iter().filter(|other| *other == note).count(), 1, "{account}: {note}");
        }
        for note in &failed {
            assert!(notes.iter().filter(|other| *other == note).count() <= 1, "{account}: {note}");
        }
        wait_for(&projector, &store, &account).await.expect("is handled");
        events += notes.len() as i64;
    }
    assert_eq!(effects.positions().await, (1..=events).collect::<Vec<_>>());
    projector.shutdown();
    worker.await.expect("no panic").expect("stops");
}

/// A standby server rejects single statements and transactions with different codes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a separate PostgreSQL server"]
async fn a_standby_server_is_reported_as_read_only() {
    let _server = SERVER.lock().await;
    let store = crate::store().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let (ann, bob) = ("ann".to_owned(), "bob".to_owned());
    accounts.execute(&ann, Deposit::one(1, "before")).await.expect("accepted");
    let directory = sqlx::query_scalar("SHOW data_directory").fetch_one(store.pool()).await;
    let directory: String = directory.expect("reads");
    let sql = format!("COPY (SELECT '') TO '{directory}/standby.signal'");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(store.pool()).await.expect("writes the file");
    restart("fast").await;

    let single = accounts.execute(&ann, Deposit::one(1, "single")).await.expect_err("is read-only");
    let several = Transaction::new(&store).execute(&accounts, &ann, Deposit::one(1, "several")).execute(
        &accounts,
        &bob,
        Deposit::one(1, "several"),
    );
    let several = several.commit().await.expect_err("is read-only");
    let migration = store.migrate().await.expect_err("is read-only");
    for text in [es_core::error_text(&single), es_core::error_text(&several), es_core::error_text(&migration)]
    {
        assert!(text.contains("the server is read-only: connect to the primary"), "{text}");
    }
    assert!(matches!(migration, StoreError::Setup { .. }), "{migration:?}");
    assert_eq!(accounts.load(&ann).await.expect("loads").version.get(), 1);

    sqlx::query("SELECT pg_promote()").execute(store.pool()).await.expect("promotes");
    accounts.execute(&ann, Deposit::one(1, "after")).await.expect("accepted");
}
