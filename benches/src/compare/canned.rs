//! A connector that generates a stream while it is read, so that no memory is used for stored data.

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
use serde_json::Value;

use crate::domain::Deposited;

/// The approximate number of items in a page of 1 MB.
const ITEMS_A_PAGE: u64 = 4_000;

/// The field that every response of DynamoDB has, with the table of the contenders whose prefix is `canned`.
const CAPACITY: &str = r#""ConsumedCapacity":{"TableName":"canned-commits","CapacityUnits":1.0}"#;

/// Responds to a Query with the commits of a stream, with one event each, and to a PutItem with success.
#[derive(Clone, Debug)]
pub struct Canned {
    events: u64,
    /// The payload, escaped as a JSON string.
    payload: String,
}

impl Canned {
    /// Creates a connector with a stream of `events` events.
    pub fn new(events: u64) -> Self {
        Self { events, payload: serde_json::to_string(&Deposited::new().json()).expect("a text") }
    }

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

    fn page(&self, query: &[u8]) -> String {
        let query: Value = serde_json::from_slice(query).unwrap_or_default();
        let version = |key: &Value| {
            let text = key["S"].as_str().and_then(|text| text.strip_prefix("E#"));
            text.and_then(|digits| digits.parse::<u64>().ok())
        };
        let first = match version(&query["ExclusiveStartKey"]["sk"]) {
            Some(before) => before + 1,
            None => version(&query["ExpressionAttributeValues"][":from"]).unwrap_or(1),
        };
        let last = self.events.min(first + ITEMS_A_PAGE - 1);
        let mut body = String::from(r#"{"Items":["#);
        for version in first..=last {
            let comma = if version == first { "" } else { "," };
            let id = uuid::Uuid::from_u128(u128::from(version));
            let _ = write!(
                body,
                r#"{comma}{{"pk":{{"S":"account#a"}},"sk":{{"S":"E#{version:012}"}},"lv":{{"N":"{version}"}},"id":{{"S":"{id}"}},"at":{{"N":"1700000000000"}},"ev":{{"L":[{{"M":{{"t":{{"S":"Deposited"}},"p":{{"S":{}}}}}}}]}}}}"#,
                self.payload,
            );
        }
        body.push(']');
        if last < self.events {
            let _ = write!(
                body,
                r#","LastEvaluatedKey":{{"pk":{{"S":"account#a"}},"sk":{{"S":"E#{last:012}"}}}}"#
            );
        }
        let _ = write!(body, ",{CAPACITY}}}");
        body
    }
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = match target.ends_with("Query") {
            true => self.page(request.body().bytes().unwrap_or_default()),
            false => format!("{{{CAPACITY}}}"),
        };
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
