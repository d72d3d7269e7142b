//! Statements of the application in the transaction of a command.

use es_core::{ExecuteError, Repository, StoreError, Transaction};
use es_postgres::sqlx::{self, AssertSqlSafe};
use es_postgres::{PostgresStore, Statement};
use es_tests::domain::{Account, Deposit, Withdraw};

/// A store with a table of the application beside it.
async fn with_balances() -> PostgresStore {
    let store = crate::store().await;
    let sql =
        format!("CREATE TABLE {} (account text PRIMARY KEY, cents bigint)", crate::table(&store, "balances"));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(store.pool()).await.expect("creates");
    store
}

async fn balance(store: &PostgresStore, account: &str) -> Option<i64> {
    let sql = format!("SELECT cents FROM {} WHERE account = $1", crate::table(store, "balances"));
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(account);
    query.fetch_optional(store.pool()).await.expect("reads")
}

fn set_balance(store: &PostgresStore, account: &str, cents: u64) -> Statement {
    let table = crate::table(store, "balances");
    let sql = format!(
        "INSERT INTO {table} VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET cents = excluded.cents"
    );
    Statement::new(AssertSqlSafe(sql)).bind(account).bind(cents as i64)
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn are_committed_with_the_events_or_not_at_all() {
    let store = with_balances().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let (ann, bob) = ("ann".to_owned(), "bob".to_owned());
    let request = || accounts.with_writes(|decided| [set_balance(&store, decided.id, decided.state.balance)]);
    request().execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    assert_eq!(balance(&store, &ann).await, Some(10));
    let rejected = request().execute(&ann, Withdraw { cents: 11 }).await.expect_err("too much");
    assert!(rejected.rejection().is_some());
    assert_eq!(balance(&store, &ann).await, Some(10));

    let done = Transaction::new(&store)
        .execute(&accounts, &ann, Withdraw { cents: 4 })
        .execute(&accounts, &bob, Deposit::one(4, "transfer"))
        .with_writes(&accounts, &bob, {
            let store = store.clone();
            move |decided| [set_balance(&store, decided.id, decided.state.balance)]
        })
        .commit()
        .await
        .expect("accepted");
    assert_eq!((done.attempts, balance(&store, &bob).await), (1, Some(4)));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn that_affect_other_rows_than_expected_refuse_the_command() {
    let store = with_balances().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let ann = "ann".to_owned();
    let update = || {
        let sql = format!("UPDATE {} SET cents = 0 WHERE account = 'ann'", crate::table(&store, "balances"));
        Statement::new(AssertSqlSafe(sql)).affecting(1)
    };
    let request = || accounts.with_writes(|_| [set_balance(&store, "eve", 1), update()]);
    let error = request().execute(&ann, Deposit::one(1, "first")).await.expect_err("there is no row");
    assert!(matches!(&error, ExecuteError::Refused(refused) if refused.index == 1), "{error:?}");
    assert_eq!(
        (balance(&store, "eve").await, accounts.load(&ann).await.expect("loads").version.get()),
        (None, 0)
    );

    let other = accounts.with_writes(|_| [7_u32]);
    let error = other.execute(&ann, Deposit::one(1, "first")).await.expect_err("of no use");
    let ExecuteError::Store(StoreError::Invalid { reason, .. }) = &error else { panic!("{error:?}") };
    assert!(reason.contains("`u32`"), "{reason}");
}

/// The error is about the application's statement, not about the schema of the store.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn that_cannot_be_executed_are_named_in_the_error() {
    let store = with_balances().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let table = crate::table(&store, "balances");
    for (sql, cause, is_setup) in [
        ("INSERT INTO unknown_table VALUES (1)".to_owned(), "unknown_table", true),
        (format!("UPDATE {table} SET euros = 1"), "euros", true),
        (format!("UPDATE {table} SET cents = total(cents)"), "total", true),
        ("INSERT INTO nowhere.balances VALUES (1)".to_owned(), "nowhere", true),
        (format!("INSERT INTO {table} VALUES ('ann', 1), ('ann', 2)"), "balances_pkey", false),
        (format!("UPDATE {table} SET"), "syntax error", false),
        ("SELECT 1; SELECT 2".to_owned(), "multiple commands", false),
        ("CREATE DATABASE other".to_owned(), "transaction block", false),
    ] {
        let request = accounts.with_writes(|_| [Statement::new(AssertSqlSafe(sql.clone()))]);
        let error = request.execute("ann", Deposit::one(1, "first")).await.expect_err("cannot be executed");
        let ExecuteError::Store(error) = error else { panic!("{error:?}") };
        assert_eq!(matches!(error, StoreError::Setup { .. }), is_setup, "{sql}: {error:?}");
        assert_eq!(matches!(error, StoreError::Invalid { .. }), !is_setup, "{sql}: {error:?}");
        let text = es_core::error_text(&error);
        assert!(text.contains(&sql) && text.contains(cause) && !text.contains("migrate"), "{text}");
    }
    assert!(!accounts.load("ann").await.expect("loads").exists());
}
