//! Errors: the meaning of each response of the service. No error quotes stored data.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use es_core::store::{Append, AppendError};
use es_core::{EventStore, StoreError, Version};
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;

use super::support::*;

/// Returns the kind of an error in one word.
fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Throttled(_) => "throttled",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Setup { .. } => "setup",
        StoreError::Backend(_) => "backend",
        _ => "another",
    }
}

fn everything(error: &dyn Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" {error} {error:?}"));
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn error_codes_are_translated() {
    let Watched { store, wire, .. } = watched().await;
    for (status, code, expected) in [
        (400, "ProvisionedThroughputExceededException", "throttled"),
        (400, "RequestLimitExceeded", "throttled"),
        (400, "ThrottlingException", "throttled"),
        (400, "TransactionConflictException", "throttled"),
        (400, "TransactionInProgressException", "unavailable"),
        (500, "InternalServerError", "unavailable"),
        (503, "ServiceUnavailable", "unavailable"),
        (502, "", "unavailable"),
        (400, "ResourceNotFoundException", "setup"),
        (400, "AccessDeniedException", "setup"),
        (400, "UnrecognizedClientException", "setup"),
        (400, "ExpiredTokenException", "setup"),
        (400, "MissingAuthenticationTokenException", "setup"),
        (400, "ValidationException", "backend"),
        (400, "ItemCollectionSizeLimitExceededException", "backend"),
        (400, "SomethingNew", "backend"),
    ] {
        wire.plan(move |_| Act::Answer(status, refusal(code, "because")));
        let append = Append::after_loaded(stream(), Version::NONE, commit(1));
        let AppendError::Store(write) = store.append(&append).await.expect_err("refused") else {
            panic!("{code} is no conflict")
        };
        let read = store.head(&stream()).await.expect_err("refused");
        assert_eq!((kind(&write), kind(&read)), (expected, expected), "{code}");
        assert_eq!(write.is_retryable(), matches!(expected, "throttled" | "unavailable"), "{code}");
        assert_eq!(write.is_outcome_unknown(), expected == "unavailable", "{code}");
        assert!(everything(&write).contains(code), "{}", everything(&write));
    }
    wire.plan(|_| Act::Answer(200, "<html>".to_owned()));
    let read = store.head(&stream()).await.expect_err("is no answer");
    assert_eq!(kind(&read), "unavailable", "{read:?}");
    let write = store.append(&Append::after_loaded(stream(), Version::NONE, commit(1))).await;
    let Err(AppendError::Store(write)) = write else { panic!("{write:?}") };
    assert_eq!(kind(&write), "unavailable", "{write:?}");
}

/// If a write has no response, its outcome is unknown.
#[tokio::test]
async fn the_outcome_of_a_write_without_a_response_is_unknown() {
    let Watched { store, wire, .. } = watched().await;
    wire.plan(|_| Act::LoseAnswer);
    let error = store.head(&stream()).await.expect_err("lost");
    assert_eq!(kind(&error), "unavailable");
    assert!(everything(&error).contains("lost on purpose"), "{}", everything(&error));
}

/// A retry would not help, and the error says what to do.
#[tokio::test]
async fn missing_credentials_and_regions_are_named() {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
    let engine = Engine::in_memory().expect("starts");
    let http_client = engine.client().config().http_client().expect("has one");
    let config = || {
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client.clone())
    };
    let local = || Region::from_static("local");
    let denied = FailingCredentials(|| CredentialsError::not_loaded("none on purpose"));
    for (name, config) in [
        ("no credentials", config().region(local()).build()),
        ("credentials that cannot be had", config().region(local()).credentials_provider(denied).build()),
    ] {
        let store = DynamoStore::builder().client(Client::from_conf(config)).build().expect("a valid name");
        let error = store.head(&stream()).await.expect_err(name);
        assert_eq!(kind(&error), "setup", "{name}: {}", everything(&error));
        assert!(error.to_string().contains("credentials"), "{name}: {error}");
        assert!(!error.is_retryable());
    }

    let credentials = aws_credential_types::Credentials::new("id", "secret", None, None, "test");
    let config = config().credentials_provider(credentials).build();
    let store = DynamoStore::builder().client(Client::from_conf(config)).build().expect("a valid name");
    let error = store.head(&stream()).await.expect_err("no region");
    assert_eq!(kind(&error), "setup", "{}", everything(&error));
    assert!(error.to_string().contains("set `AWS_REGION`"), "{error}");
    assert!(!error.is_retryable());
}

/// The service that provides credentials may be out of order for a while, so the request is repeated.
#[tokio::test]
async fn credentials_that_cannot_be_loaded_are_named() {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
    let engine = Engine::in_memory().expect("starts");
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(engine.client().config().http_client().expect("has one"))
        .region(Region::from_static("local"))
        .credentials_provider(FailingCredentials(|| CredentialsError::provider_error("no answer on purpose")))
        .build();
    let store = DynamoStore::builder().client(Client::from_conf(config)).build().expect("a valid name");
    let error = store.head(&stream()).await.expect_err("no credentials");
    assert_eq!(kind(&error), "unavailable", "{}", everything(&error));
    assert!(everything(&error).contains("the credentials could not be loaded"), "{}", everything(&error));
    assert!(everything(&error).contains("no answer on purpose"), "{}", everything(&error));
}

#[derive(Debug)]
struct FailingCredentials(fn() -> CredentialsError);

impl aws_sdk_dynamodb::config::ProvideCredentials for FailingCredentials {
    fn provide_credentials<'a>(&'a self) -> ProvideCredentials<'a>
    where
        Self: 'a,
    {
        ProvideCredentials::ready(Err((self.0)()))
    }
}

/// The item that a failed condition returns belongs to another writer, and must not be logged.
#[tokio::test]
async fn errors_do_not_quote_stored_items() {
    let Watched { store, wire, .. } = watched().await;
    let secret = "secret-4711";
    let event = || es_core::event::EventData::new("Counted", 1, format!("\"{secret}\""));
    let append = |version| Append::after_loaded(stream(), Version::new(version), commit_of(vec![event()]));
    store.append(&append(0)).await.expect("appends");
    let conflict = store.append(&append(0)).await.expect_err("too late");
    assert!(conflict.is_conflict());
    let mut errors = vec![everything(&conflict)];
    for act in [
        || Act::LoseAnswer,
        || Act::Answer(400, refusal("ValidationException", "no")),
        || Act::Answer(500, "not JSON".to_owned()),
    ] {
        wire.once("PutItem", act());
        errors.push(everything(&store.append(&append(1)).await.expect_err("fails")));
    }
    for error in errors {
        assert!(!error.contains(secret), "{error}");
    }
}

/// The SDK retries transient failures, and the store recognizes its commit.
#[tokio::test]
async fn a_commit_is_recognized_after_retries_of_the_sdk() {
    let engine = Engine::in_memory().expect("starts");
    engine.store().await.expect("creates the table");
    let (store, wire) = watch(&engine, RetryConfig::standard());
    wire.once("PutItem", Act::LoseAnswer);
    let appended = store
        .append(&Append::after_loaded(stream(), Version::NONE, commit(1)))
        .await
        .expect("the second answer arrives");
    assert_eq!(place(&appended), (1, 1, true));
    assert_eq!(wire.seen(), ["PutItem", "PutItem"]);
}
