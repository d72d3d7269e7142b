//! The payload store on Amazon S3: its errors and time limits on a stand-in for S3 in this process, and, in `server`,
//! everything else on moto.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::{Client, Config};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use es_core::payloads::{PayloadError, PayloadName, PayloadPrefix, PayloadStore};
use es_dynamo::payloads::S3Payloads;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;

/// What the stand-in for S3 answers.
type Answer = dyn Fn(&HttpRequest) -> Result<HttpResponse, ConnectorError> + Send + Sync;

/// A stand-in for S3, which is also its connector, and records the requests.
#[derive(Clone)]
struct S3 {
    answer: Arc<Answer>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl S3 {
    fn new(
        answer: impl Fn(&HttpRequest) -> Result<HttpResponse, ConnectorError> + Send + Sync + 'static,
    ) -> Self {
        Self { answer: Arc::new(answer), requests: Arc::default() }
    }

    /// Answers all requests with this status and this code.
    fn refusing(status: u16, code: &'static str) -> Self {
        Self::new(move |request| {
            // A response to `HeadObject` has no body.
            let body = match (request.method(), code) {
                ("HEAD", _) | (_, "") => String::new(),
                _ => format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>"),
            };
            Ok(response(status, body))
        })
    }

    fn payloads(&self) -> S3Payloads {
        let connector = SharedHttpConnector::new(self.clone());
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(http_client_fn(move |_, _| connector.clone()));
        S3Payloads::new(Client::from_conf(config.build()), "orders")
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("S3")
    }
}

impl HttpConnector for S3 {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().split_once("amazonaws.com").map_or(request.uri(), |(_, path)| path);
        self.requests.lock().expect("no panic").push(format!("{} {uri}", request.method()));
        HttpConnectorFuture::ready((self.answer)(&request))
    }
}

fn response(status: u16, body: impl Into<SdkBody>) -> HttpResponse {
    HttpResponse::new(status.try_into().expect("a status"), body.into())
}

fn name_of(content: &str) -> PayloadName {
    PayloadName::of(PayloadPrefix::new("events/payloads").expect("valid"), content.as_bytes())
}

/// Returns the errors of all operations, with their names.
async fn errors(payloads: &S3Payloads) -> [(&'static str, PayloadError); 4] {
    let name = name_of("content");
    let put = payloads.put(&name, "content".into()).await.expect_err("refused");
    let get = payloads.get(&name).await.expect_err("refused");
    let delete = payloads.delete(&name).await.expect_err("refused");
    let list = payloads.list(name.prefix()).try_collect::<Vec<_>>().await.expect_err("refused");
    [("put", put), ("get", get), ("delete", delete), ("list", list)]
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_setup_says_what_to_do() {
    let cases = [
        (404, "NoSuchBucket", "the bucket `orders` does not exist: create it"),
        (403, "AccessDenied", "denied access: the role needs s3:GetObject"),
        (403, "", "denied access: the role needs s3:GetObject"),
        (301, "PermanentRedirect", "is in another region"),
        (301, "", "is in another region"),
        (400, "AuthorizationHeaderMalformed", "is in another region"),
        (400, "IllegalLocationConstraintException", "is in another region"),
        (400, "ExpiredToken", "renew them"),
        (403, "InvalidAccessKeyId", "check them"),
        (403, "SignatureDoesNotMatch", "check them"),
        (403, "RequestTimeTooSkewed", "synchronize the clock"),
        (501, "NotImplemented", "without conditional puts"),
        (400, "InvalidRequest", "refused the request"),
    ];
    for (status, code, advice) in cases {
        for (operation, error) in errors(&S3::refusing(status, code).payloads()).await {
            let is_setup = matches!(&error, PayloadError::Setup { reason, .. } if reason.contains(advice));
            assert!(is_setup && !error.is_retryable(), "{operation}, {status} {code}: {error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_error_can_be_retried() {
    let cases = [
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (502, ""),
        (400, "RequestTimeout"),
        (400, "BadDigest"),
        (409, "ConditionalRequestConflict"),
        (307, "TemporaryRedirect"),
    ];
    for (status, code) in cases {
        for (operation, error) in errors(&S3::refusing(status, code).payloads()).await {
            assert!(matches!(error, PayloadError::Unavailable(_)), "{operation}, {status} {code}: {error:?}");
        }
    }
    for (operation, error) in errors(&S3::refusing(503, "SlowDown").payloads()).await {
        assert!(matches!(error, PayloadError::Throttled(_)), "{operation}: {error:?}");
    }
    let lost = S3::new(|_| Err(ConnectorError::io("the connection was reset".into())));
    for (operation, error) in errors(&lost.payloads()).await {
        assert!(matches!(error, PayloadError::Unavailable(_)), "{operation}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_archived_or_deleted_object_is_named() {
    let name = name_of("content");
    let error = S3::refusing(403, "InvalidObjectState").payloads().get(&name).await.expect_err("archived");
    assert!(error.to_string().contains(&format!("`{name}` is in a storage class")), "{error}");

    // It is deleted between the put that finds it and the request for its checksum.
    let s3 = S3::new(|request| {
        let code = "<Error><Code>PreconditionFailed</Code></Error>";
        Ok(if request.method() == "PUT" { response(412, code) } else { response(404, "") })
    });
    let error = s3.payloads().put(&name, "content".into()).await.expect_err("is unknown");
    assert!(error.is_retryable(), "{error:?}");
    let requests = s3.requests().into_iter().map(|request| request[..4].to_owned());
    assert_eq!(requests.collect::<Vec<_>>(), ["PUT ", "HEAD"]);
}

/// Neither a response that never comes nor one that never ends holds up a load.
#[tokio::test(start_paused = true)]
async fn reading_has_a_time_limit() {
    let never_ends = S3::new(|_| {
        let body = StreamBody::new(stream::pending::<Result<_, Infallible>>());
        Ok(response(200, SdkBody::from_body_1_x(BoxBody::new(body))))
    });
    let start = tokio::time::Instant::now();
    let error = never_ends.payloads().get(&name_of("content")).await.expect_err("no content");
    assert!(matches!(error, PayloadError::Unavailable(_)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 180);

    #[derive(Clone, Debug)]
    struct Silence;
    impl HttpConnector for Silence {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            HttpConnectorFuture::new(std::future::pending())
        }
    }
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
        .http_client(http_client_fn(|_, _| SharedHttpConnector::new(Silence)));
    let silent = S3Payloads::new(Client::from_conf(config.build()), "orders");
    let start = tokio::time::Instant::now();
    for (operation, error) in errors(&silent).await {
        assert!(matches!(error, PayloadError::Unavailable(_)), "{operation}: {error:?}");
    }
    assert!(start.elapsed() <= Duration::from_secs(4 * 181), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_listing_is_an_error() {
    let name = name_of("content");
    let listing = |contents: &str, more: bool| {
        let text = format!(
            "<ListBucketResult><IsTruncated>{more}</IsTruncated><Contents><Key>{name}</Key>{contents}</Contents>\
             </ListBucketResult>"
        );
        S3::new(move |_| Ok(response(200, text.clone())))
    };
    let complete = "<Size>7</Size><LastModified>2030-01-01T00:00:00.000Z</LastModified>";
    for (contents, more) in [("", false), ("<Size>7</Size>", false), (complete, true)] {
        let payloads = listing(contents, more).payloads();
        let listed: Result<Vec<_>, _> = payloads.list(name.prefix()).try_collect().await;
        assert!(matches!(listed, Err(PayloadError::Unavailable(_))), "{contents}, {more}: {listed:?}");
    }
    let payloads = listing(complete, false).payloads();
    let listed = payloads.list(name.prefix()).next().await.expect("an object").expect("is complete");
    assert_eq!(
        (listed.name, listed.length, listed.stored_at.to_rfc3339().as_str()),
        (name, 7, "2030-01-01T00:00:00+00:00")
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_starts_with_the_prefix() {
    let s3 = S3::refusing(404, "NoSuchKey");
    let payloads = s3.payloads().with_key_prefix("production/shop".parse().expect("valid"));
    let name = name_of("content");
    let _ = payloads.put(&name, "content".into()).await;
    payloads.get(&name).await.expect_err("missing");
    payloads.delete(&name).await.expect("is gone");
    let _ = payloads.list(name.prefix()).next().await;
    let [put, get, delete, list] = &s3.requests()[..] else { panic!("four requests") };
    for (request, method) in [(put, "PUT"), (get, "GET"), (delete, "DELETE")] {
        assert!(request.starts_with(&format!("{method} /production/shop/{name}?")), "{request}");
    }
    assert!(list.contains("prefix=production%2Fshop%2Fevents%2Fpayloads%2F"), "{list}");
}

/// Tests on the server at `ES_MOTO_ENDPOINT`, which `scripts/moto` starts. Without it, they are ignored.
mod server;
