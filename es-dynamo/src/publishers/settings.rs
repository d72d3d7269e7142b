//! The settings of the publishers' clients.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::table::client::{default_timeouts, https_client};

/// Returns the settings from the environment, with the timeouts of
/// [`DynamoStore::from_env`](crate::DynamoStore::from_env).
pub(super) async fn from_env() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(https_client())
        .timeout_config(default_timeouts().build())
        .load()
        .await
}

/// Returns the settings of a client for a server at `url` that does not check credentials.
pub(super) fn at(url: impl Into<String>) -> SdkConfig {
    let credentials = Credentials::new("local", "local", None, None, "unsigned");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .timeout_config(default_timeouts().build())
        .http_client(https_client())
        .build()
}
