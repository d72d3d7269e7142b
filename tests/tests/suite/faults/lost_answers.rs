//! Writes whose responses are lost, one at a time: retried by the SDK, by the repository, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use es_core::clock::ManualClock;
use es_core::testing::Faults;
use es_core::{ExecuteError, Repository, RetryPolicy, StoreError};
use es_dynamo::DynamoStore;
use es_dynamo::embedded::{Connector, Engine};
use es_dynamo::testing::FaultyConnector;
use es_tests::conformance::time;
use es_tests::domain::{Account, Deposit, TakeHandle};

/// Loses the responses to a number of writes, and counts all writes.
#[derive(Clone, Debug)]
struct LosesAnswers {
    way: Connector,
    left: Arc<AtomicU32>,
    writes: Arc<AtomicU32>,
    then: Then,
}

/// The number of later writes to refuse, and the error code.
#[derive(Clone, Debug)]
struct Then {
    code: &'static str,
    refusals: Arc<AtomicU32>,
}

impl Then {
    fn passes() -> Self {
        Self::refuses(0, "")
    }

    fn refuses(times: u32, code: &'static str) -> Self {
        Self { code, refusals: Arc::new(AtomicU32::new(times)) }
    }
}

/// Decrements the counter, unless it is zero.
fn take_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl HttpConnector for LosesAnswers {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let is_write =
            request.headers().get("x-amz-target").is_some_and(|target| target.ends_with("PutItem"));
        if !is_write {
            return self.way.call(request);
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        let loses = take_one(&self.left);
        if !loses && take_one(&self.then.refusals) {
            return HttpConnectorFuture::ready(Ok(refusal(self.then.code)));
        }
        let answer = self.way.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await;
            if loses { Err(ConnectorError::timeout("lost on purpose".into())) } else { answer }
        })
    }
}

fn refusal(code: &str) -> HttpResponse {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"on purpose"}}"#);
    HttpResponse::new(StatusCode::try_from(400).expect("a status"), SdkBody::from(body))
}

/// A repository that loses the responses to `lost` writes, with the given numbers of attempts of the SDK and of the
/// repository.
async fn repository(lost: u32, by_sdk: u32, by_repository: u32) -> (Repository<Account>, LosesAnswers) {
    repository_that(lost, Then::passes(), by_sdk, by_repository).await
}

/// Like the function above, and refuses later writes.
async fn repository_that(
    lost: u32,
    then: Then,
    by_sdk: u32,
    by_repository: u32,
) -> (Repository<Account>, LosesAnswers) {
    let engine = Engine::in_memory().expect("starts");
    engine.store().await.expect("creates the table");
    let way = LosesAnswers {
        way: engine.connector(),
        left: Arc::new(AtomicU32::new(lost)),
        writes: Arc::default(),
        then,
    };
    let retries =
        RetryConfig::standard().with_max_attempts(by_sdk).with_initial_backoff(Duration::from_millis(1));
    let config = engine.config_through(SharedHttpConnector::new(way.clone())).retry_config(retries);
    let store =
        DynamoStore::builder().client(Client::from_conf(config.build())).build().expect("a valid table");
    let retry = RetryPolicy::default().with_max_attempts(by_repository);
    let accounts = Repository::builder(store).retry(retry).clock(ManualClock::at(time(0))).build();
    (accounts, way)
}

/// Deposits once, and returns how often the deposit is in the stream.
async fn deposits_recorded(accounts: &Repository<Account>) -> usize {
    accounts.history(&"a".to_owned()).all().await.expect("reads").len()
}

#[tokio::test]
async fn is_recognized_when_the_sdk_repeats_it() {
    let (accounts, way) = repository(2, 3, 1).await;
    let done = accounts.execute(&"a".to_owned(), Deposit::one(1, "once")).await.expect("accepted");
    assert_eq!((done.version, done.attempts), (1.into(), 1));
    assert_eq!(way.writes.load(Ordering::SeqCst), 3, "the SDK repeated it twice");
    assert_eq!(deposits_recorded(&accounts).await, 1);
}

#[tokio::test]
async fn is_recognized_when_the_repository_repeats_it() {
    let (accounts, way) = repository(2, 1, 3).await;
    let done = accounts.execute(&"a".to_owned(), Deposit::one(1, "once")).await.expect("accepted");
    assert_eq!((done.version, done.attempts), (1.into(), 1), "it is the same decision");
    assert_eq!(way.writes.load(Ordering::SeqCst), 3, "the repository repeated it twice");
    assert_eq!(deposits_recorded(&accounts).await, 1);
}

#[tokio::test]
async fn is_reported_as_unknown_when_nobody_repeats_it() {
    let (accounts, _) = repository(1, 1, 1).await;
    let error = accounts.execute(&"a".to_owned(), Deposit::one(1, "once")).await.expect_err("no answer");
    assert!(matches!(error, ExecuteError::Store(StoreError::Unavailable(_))), "{error:?}");
    assert!(error.is_retryable() && !error.is_conflict());
    assert_eq!(deposits_recorded(&accounts).await, 1, "it was recorded all the same");
}

const REFUSALS: [&str; 4] =
    ["ThrottlingException", "AccessDeniedException", "ExpiredTokenException", "ValidationException"];

/// If an earlier attempt may have been executed, the outcome is unknown even if the last attempt was refused,
/// regardless of whether the SDK or the repository made it.
#[tokio::test]
async fn stays_unknown_whatever_the_later_answers_are() {
    for (by_sdk, by_repository) in [(1, 3), (2, 3), (2, 1)] {
        for code in REFUSALS {
            let then = Then::refuses(u32::MAX, code);
            let (accounts, way) = repository_that(1, then, by_sdk, by_repository).await;
            let error =
                accounts.execute(&"a".to_owned(), Deposit::one(1, "once")).await.expect_err("no answer");
            assert!(matches!(error, ExecuteError::Store(StoreError::Unavailable(_))), "{code}: {error:?}");
            assert!(error.is_outcome_unknown() && error.is_retryable());
            assert!(way.writes.load(Ordering::SeqCst) > 1);
            assert_eq!(deposits_recorded(&accounts).await, 1, "it was recorded all the same");
        }
    }
    // Without a lost response, the refusal is the error.
    for code in REFUSALS {
        let (accounts, _) = repository_that(0, Then::refuses(u32::MAX, code), 2, 3).await;
        let error = accounts.execute(&"a".to_owned(), Deposit::one(1, "once")).await.expect_err("refused");
        assert!(!error.is_outcome_unknown(), "{code}: {error:?}");
        assert_eq!(deposits_recorded(&accounts).await, 0);
    }
}

/// For example, if credentials expire temporarily: repeating the write resolves the outcome of the first attempt.
#[tokio::test]
async fn is_resolved_as_soon_as_the_refusals_pass() {
    for (by_sdk, refusals) in [(1, 1), (1, 4), (2, 1), (2, 4)] {
        for code in REFUSALS {
            let (accounts, way) = repository_that(1, Then::refuses(refusals, code), by_sdk, 6).await;
            let done = accounts.execute(&"a".to_owned(), Deposit::one(1, "once")).await.expect("accepted");
            assert_eq!((done.version, done.attempts), (1.into(), 1), "{code}");
            assert_eq!(way.writes.load(Ordering::SeqCst), refusals + 2);
            assert_eq!(deposits_recorded(&accounts).await, 1);
        }
    }
}

/// A first attempt without a response may arrive late: the claim that blocks it now may be released before that.
#[tokio::test]
async fn is_not_called_claimed_while_it_may_be_late() {
    let engine = Engine::in_memory().expect("starts");
    let truth: Repository<Account> = Repository::new(engine.store().await.expect("creates the table"));
    let take = || TakeHandle { handle: "handle".to_owned() };
    truth.execute(&"bob".to_owned(), take()).await.expect("is free");

    let lost = AtomicU32::new(1);
    let connector = FaultyConnector::new(engine.connector(), Faults::seeded(1).lost_requests(1.0))
        .only(move |operation, _| operation == "TransactWriteItems" && take_one(&lost));
    let config = engine.config_through(connector.into_shared()).retry_config(RetryConfig::disabled());
    let store =
        DynamoStore::builder().client(Client::from_conf(config.build())).build().expect("a valid table");
    let accounts: Repository<Account> = Repository::builder(store).clock(ManualClock::at(time(0))).build();
    let error = accounts.execute(&"ann".to_owned(), take()).await.expect_err("bob has it");
    assert!(error.is_outcome_unknown(), "{error:?}");
    let error = accounts.execute(&"ann".to_owned(), take()).await.expect_err("bob has it");
    assert!(error.claimed().is_some(), "{error:?}");
}
