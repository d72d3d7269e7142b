//! Additional writes of the application in the transaction of a command, such as a read model without a lag.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::types::{AttributeValue, Put};
use es_core::documents::{ChangeError, ChangeSet, DocumentKey, Documents, ExpectedDocument};
use es_core::repository::Decided;
use es_core::store::AdditionalWrite;
use es_core::{ExecuteError, Repository, Transaction};
use es_dynamo::DynamoStore;
use es_tests::domain::{Account, Deposit, Withdraw};

use crate::engine::dynamo_store;

/// Returns the row of an account in the store's table, in a partition without a stream.
fn row(store: &DynamoStore, decided: &Decided<'_, Account>) -> Put {
    Put::builder()
        .table_name(store.table_name())
        .item("pk", AttributeValue::S("rows".to_owned()))
        .item("sk", AttributeValue::S(decided.id.clone()))
        .item("balance", AttributeValue::N(decided.state.balance.to_string()))
        .item("version", AttributeValue::N(decided.version.to_string()))
        .item("events", AttributeValue::N(decided.events.len().to_string()))
        .condition_expression("attribute_not_exists(frozen)")
        .build()
        .expect("has a table and an item")
}

/// Returns the balance and the version in the row of an account.
async fn found(store: &DynamoStore, id: &str) -> Option<(String, String)> {
    let request = store.client().get_item().table_name(store.table_name()).consistent_read(true);
    let request = request.key("pk", AttributeValue::S("rows".to_owned()));
    let item = request.key("sk", AttributeValue::S(id.to_owned())).send().await.expect("answers").item?;
    let number = |name: &str| item[name].as_n().expect("is a number").clone();
    Some((number("balance"), number("version")))
}

async fn freeze(store: &DynamoStore, id: &str) {
    let request = store.client().put_item().table_name(store.table_name());
    let request = request.item("pk", AttributeValue::S("rows".to_owned()));
    let request = request.item("sk", AttributeValue::S(id.to_owned()));
    request.item("frozen", AttributeValue::Bool(true)).send().await.expect("writes");
}

#[tokio::test]
async fn a_row_follows_every_command() {
    let store = dynamo_store().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let id = "ann".to_owned();
    let request = || accounts.with_writes(|decided| [row(&store, decided)]);
    for n in 1..=3_u64 {
        let deposit = Deposit { cents: 5, notes: vec!["a".to_owned(), "b".to_owned()] };
        let done = match n {
            1 => request().create(&id, deposit).await.expect("is new"),
            _ => request().execute(&id, deposit).await.expect("accepted"),
        };
        let expected = (done.state.balance.to_string(), done.version.to_string());
        assert_eq!((found(&store, &id).await, done.state.balance), (Some(expected), 10 * n));
    }
    assert!(
        request().execute(&id, Withdraw { cents: 31 }).await.expect_err("too much").rejection().is_some()
    );
    assert_eq!(found(&store, &id).await, Some(("30".to_owned(), "6".to_owned())));

    freeze(&store, &id).await;
    let error = request().execute(&id, Withdraw { cents: 1 }).await.expect_err("is frozen");
    assert!(matches!(&error, ExecuteError::Refused(refused) if refused.index == 0), "{error:?}");
    assert!(!error.is_retryable() && !error.is_conflict());
    assert_eq!(accounts.load(&id).await.expect("loads").version, 6);
}

/// Each attempt creates new rows, from the state of its decision.
#[tokio::test]
async fn a_row_is_of_the_attempt_that_wins() {
    let store = dynamo_store().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let id = "ann".to_owned();
    let calls = AtomicU32::new(0);
    let done = accounts
        .with_writes(|decided| [row(&store, decided)])
        .decide(&id, async |_, _| {
            if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                accounts.execute(&id, Deposit::one(100, "first")).await.expect("accepted");
            }
            let event = es_tests::domain::Deposited { cents: 1, note: "second".to_owned() };
            Ok::<_, std::convert::Infallible>(event.into())
        })
        .await
        .expect("accepted");
    assert_eq!((done.attempts, done.state.balance), (2, 101));
    assert_eq!(found(&store, &id).await, Some(("101".to_owned(), "2".to_owned())));
}

#[tokio::test]
async fn rows_join_a_transaction() {
    let store = dynamo_store().await;
    let accounts: Repository<Account> = Repository::new(store.clone());
    let (ann, bob) = ("ann".to_owned(), "bob".to_owned());
    accounts.execute(&ann, Deposit::one(10, "first")).await.expect("accepted");
    let transfer = || {
        let (for_ann, for_bob) = (store.clone(), store.clone());
        Transaction::new(&store)
            .execute(&accounts, &ann, Withdraw { cents: 4 })
            .execute(&accounts, &bob, Deposit::one(4, "transfer"))
            .with_writes(&accounts, &ann, move |decided| [row(&for_ann, decided)])
            .with_writes(&accounts, &bob, move |decided| [row(&for_bob, decided)])
    };
    transfer().commit().await.expect("accepted");
    assert_eq!(found(&store, &ann).await, Some(("6".to_owned(), "2".to_owned())));
    assert_eq!(found(&store, &bob).await, Some(("4".to_owned(), "1".to_owned())));
    freeze(&store, &bob).await;
    let error = transfer().commit().await.expect_err("bob is frozen");
    assert!(matches!(&error, ExecuteError::Refused(refused) if refused.index == 1), "{error:?}");
    assert_eq!(accounts.load(&ann).await.expect("loads").state.balance, 6);
}

/// A document and a row of the application are written atomically.
#[tokio::test]
async fn rows_join_documents() {
    let store = dynamo_store().await;
    let row = |balance: &str| {
        let put = Put::builder()
            .table_name(store.table_name())
            .item("pk", AttributeValue::S("rows".to_owned()))
            .item("sk", AttributeValue::S("ann".to_owned()))
            .item("balance", AttributeValue::N(balance.to_owned()))
            .item("version", AttributeValue::N("1".to_owned()));
        put.condition_expression("attribute_not_exists(frozen)").build().expect("has a table and an item")
    };
    let key = DocumentKey::new("checkpoints", "balances");
    let set = |expected, balance: &str| {
        let set = ChangeSet::new(uuid::Uuid::new_v4()).put(key.clone(), expected, balance);
        set.with_additional([AdditionalWrite::new(row(balance))])
    };
    let first = set(ExpectedDocument::Absent, "1");
    for _ in 0..2 {
        store.change(&first).await.expect("writes once");
    }
    assert_eq!(found(&store, "ann").await, Some(("1".to_owned(), "1".to_owned())));

    let error = store.change(&set(ExpectedDocument::Absent, "2")).await.expect_err("is too late");
    assert!(error.is_outdated(), "{error:?}");
    assert_eq!(found(&store, "ann").await, Some(("1".to_owned(), "1".to_owned())));

    freeze(&store, "ann").await;
    let error = store.change(&set(ExpectedDocument::At(first.revision()), "3")).await.expect_err("is frozen");
    assert!(matches!(error, ChangeError::Refused), "{error:?}");
    let document = store.document(&key).await.expect("reads").expect("is there");
    assert_eq!((document.revision, &*document.body), (first.revision(), "1"));
}
