//! Settings of the clients of services other than DynamoDB.

#[cfg(any(feature = "kms", feature = "s3"))]
use aws_smithy_types::timeout::TimeoutConfig;
#[cfg(any(feature = "aws", feature = "kms", feature = "s3"))]
use aws_smithy_types::timeout::TimeoutConfigBuilder;

#[cfg(feature = "aws")]
use crate::table::client::https_client;

/// Returns the settings from the environment, with these timeouts.
#[cfg(feature = "aws")]
pub(crate) async fn from_env(timeouts: TimeoutConfigBuilder) -> aws_config::SdkConfig {
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(https_client())
        .timeout_config(timeouts.build())
        .load()
        .await
}

/// Returns the settings of a client for a server at `url` that does not check credentials, with these timeouts.
#[cfg(feature = "aws")]
pub(crate) fn at(url: impl Into<String>, timeouts: TimeoutConfigBuilder) -> aws_config::SdkConfig {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;

    let credentials = Credentials::new("local", "local", None, None, "unsigned");
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .timeout_config(timeouts.build())
        .http_client(https_client())
        .build()
}

/// Returns the timeouts of a client that was passed in: its own, or `defaults` if it limits neither the time of an
/// attempt nor that of an operation.
#[cfg(any(feature = "kms", feature = "s3"))]
pub(crate) fn timeouts_or(given: Option<&TimeoutConfig>, defaults: TimeoutConfigBuilder) -> TimeoutConfig {
    match given {
        Some(given) if given.operation_timeout().is_some() || given.operation_attempt_timeout().is_some() => {
            given.clone()
        }
        Some(given) => given.to_builder().take_unset_from(defaults).build(),
        None => defaults.build(),
    }
}
