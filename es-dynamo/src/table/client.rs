//! Settings of the clients that this crate creates.

#[cfg(any(feature = "aws", feature = "kms", feature = "s3"))]
use std::time::Duration;

#[cfg(any(feature = "aws", feature = "kms", feature = "s3"))]
use aws_smithy_types::timeout::{TimeoutConfig, TimeoutConfigBuilder};

/// Returns the default timeouts. Without them, the SDK waits for a response indefinitely.
#[cfg(any(feature = "aws", feature = "kms"))]
pub(crate) fn default_timeouts() -> TimeoutConfigBuilder {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(30))
}

/// Returns the default timeouts of requests that transfer large objects.
#[cfg(feature = "s3")]
pub(crate) fn object_timeouts() -> TimeoutConfigBuilder {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(60))
        .operation_timeout(Duration::from_secs(180))
}

/// Returns the settings of a client for a server that does not check credentials.
#[cfg(any(feature = "aws", feature = "embedded"))]
pub(crate) fn unsigned_config() -> aws_sdk_dynamodb::config::Builder {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};

    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
}

/// Like [`unsigned_config`], for the table's stream.
#[cfg(all(feature = "indexer", any(feature = "aws", feature = "embedded")))]
pub(crate) fn unsigned_streams_config() -> aws_sdk_dynamodbstreams::config::Builder {
    use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Credentials, Region};

    aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
}

/// Returns an HTTPS client on rustls with ring, which builds several times as fast as the default of the SDK.
#[cfg(feature = "aws")]
pub(crate) fn https_client() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
