//! The engine on which all contenders run.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::http::{SharedHttpClient, SharedHttpConnector};

use crate::Failure;
use crate::meter::{Meter, MeteredClient, MeteredConnector};

/// The environment variable with the URL of a server. Without it, the embedded engine is used.
const ENDPOINT_VARIABLE: &str = "ES_DYNAMO_ENDPOINT";

pub enum Engine {
    Embedded(es_dynamo::embedded::Engine),
    Server { endpoint: String, http: SharedHttpClient },
}

impl Engine {
    pub fn from_env() -> Result<Self, Failure> {
        Ok(match std::env::var(ENDPOINT_VARIABLE) {
            Err(_) => Self::Embedded(es_dynamo::embedded::Engine::in_memory()?),
            Ok(endpoint) => {
                Self::Server { endpoint, http: aws_smithy_http_client::Builder::new().build_http() }
            }
        })
    }

    /// Returns a new, empty embedded engine. A server is returned unchanged.
    pub fn renewed(&self) -> Result<Self, Failure> {
        Ok(match self {
            Self::Embedded(_) => Self::Embedded(es_dynamo::embedded::Engine::in_memory()?),
            Self::Server { endpoint, http } => {
                Self::Server { endpoint: endpoint.clone(), http: http.clone() }
            }
        })
    }

    pub fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "the embedded engine",
            Self::Server { .. } => "DynamoDB Local",
        }
    }

    /// Returns a client like that of an application.
    pub fn client(&self) -> Client {
        match self {
            Self::Embedded(engine) => {
                client(engine.config_through(SharedHttpConnector::new(engine.connector())))
            }
            Self::Server { endpoint, http } => client(server_config(endpoint, http.clone())),
        }
    }

    /// Returns a client whose requests `meter` counts.
    pub fn metered_client(&self, meter: &Meter) -> Client {
        match self {
            Self::Embedded(engine) => {
                let inner = SharedHttpConnector::new(engine.connector());
                let connector = SharedHttpConnector::new(MeteredConnector::new(inner, meter.clone()));
                client(engine.config_through(connector))
            }
            Self::Server { endpoint, http } => {
                let http = SharedHttpClient::new(MeteredClient::new(http.clone(), meter.clone()));
                client(server_config(endpoint, http))
            }
        }
    }
}

/// Returns a client with an explicit sleep implementation, which event-store-adapter-rs requires.
fn client(config: Builder) -> Client {
    Client::from_conf(config.sleep_impl(SharedAsyncSleep::new(TokioSleep::new())).build())
}

fn server_config(endpoint: &str, http: SharedHttpClient) -> Builder {
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
        .endpoint_url(endpoint)
        .http_client(http)
}
