//! A connector that responds immediately.

use std::fmt::Write;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

/// The length of the text in every event, with which a payload has about 200 bytes.
pub const TEXT_BYTES: usize = 189;

/// Responds to every Query with the same stream, and to every PutItem with success.
#[derive(Clone, Debug)]
pub struct Canned {
    stream: &'static str,
    written: &'static str,
}

impl Canned {
    /// Creates a stream of `commits` commits of one event each.
    pub fn new(commits: usize) -> Self {
        let mut items = String::new();
        let text = "x".repeat(TEXT_BYTES);
        for version in 1..=commits {
            let comma = if version == 1 { "" } else { "," };
            let _ = write!(
                items,
                r#"{comma}{{"pk":{{"S":"notebook#a"}},"sk":{{"S":"E#{version:012}"}},"lv":{{"N":"{version}"}},"id":{{"S":"{}"}},"at":{{"N":"1700000000000"}},"ev":{{"L":[{{"M":{{"t":{{"S":"Noted"}},"p":{{"S":"{{\"text\":\"{text}\"}}"}}}}}}]}}}}"#,
                uuid::Uuid::from_u128(version as u128),
            );
        }
        let stream = format!(
            r#"{{"Count":{commits},"ScannedCount":{commits},"Items":[{items}],"ConsumedCapacity":{{"TableName":"events","CapacityUnits":1.0}}}}"#
        );
        let written = r#"{"ConsumedCapacity":{"TableName":"events","CapacityUnits":1.0}}"#;
        Self { stream: stream.leak(), written }
    }

    /// Returns a client that receives these responses.
    pub fn client(&self) -> Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "canned"))
            .endpoint_url("http://canned.invalid")
            .http_client(self.clone())
            .build();
        Client::from_conf(config)
    }
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = if target.ends_with("Query") { self.stream } else { self.written };
        let mut response = HttpResponse::new(StatusCode::try_from(200).expect("valid"), SdkBody::from(body));
        response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
        HttpConnectorFuture::ready(Ok(response))
    }
}

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
