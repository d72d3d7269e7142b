//! The functions as processes, invoked by a server that speaks the protocol of the Lambda runtime.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::extract::{Path as Segments, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use es_core::feed::{Feed, Slice};
use es_core::{Repository, Version};
use es_dynamo::DynamoStore;
use es_dynamo::publishers::KinesisPublisher;
use lambda_example::account::{Account, Deposit};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};

/// The maximum time that an invocation may take.
const LONGEST: Duration = Duration::from_secs(60);

/// A result of an invocation: its response, or its error.
#[derive(Debug)]
enum Invoked {
    Response(Value),
    Error(Value),
}

/// The server that a function asks for its next invocation.
struct Server {
    events: Mutex<mpsc::UnboundedReceiver<Value>>,
    results: mpsc::UnboundedSender<Invoked>,
}

/// A function as a process.
struct Function {
    events: mpsc::UnboundedSender<Value>,
    results: mpsc::UnboundedReceiver<Invoked>,
    _process: Child,
}

async fn next(State(server): State<Arc<Server>>) -> impl IntoResponse {
    // Waits as long as there is no event, as the service does.
    let event = server.events.lock().await.recv().await;
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:000000000000:function:example"),
    ];
    (headers, event.unwrap_or_default().to_string())
}

async fn result(
    State(server): State<Arc<Server>>,
    Segments((_, kind)): Segments<(String, String)>,
    _: HeaderMap,
    body: String,
) -> StatusCode {
    let value = serde_json::from_str(&body).unwrap_or(Value::String(body));
    let result = if kind == "response" { Invoked::Response(value) } else { Invoked::Error(value) };
    let _ = server.results.send(result);
    StatusCode::ACCEPTED
}

impl Function {
    async fn start(binary: &str, variables: &[(&str, &str)]) -> Self {
        let (events, queue) = mpsc::unbounded_channel();
        let (sender, results) = mpsc::unbounded_channel();
        let server = Arc::new(Server { events: Mutex::new(queue), results: sender });
        let api = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(result))
            .with_state(server);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, api).await });
        let process = Command::new(binary)
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "example")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        Self { events, results, _process: process }
    }

    async fn invoke(&mut self, event: Value) -> Invoked {
        self.events.send(event).expect("the server runs");
        let result = tokio::time::timeout(LONGEST, self.results.recv()).await;
        result.expect("the function answers").expect("the server runs")
    }

    async fn responds(&mut self, event: Value) -> Value {
        match self.invoke(event).await {
            Invoked::Response(response) => response,
            Invoked::Error(error) => panic!("the invocation failed: {error}"),
        }
    }
}

/// Returns a new file for the embedded engine.
fn file(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lambda").join(test);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("creates the directory");
    directory.join("events.db")
}

/// Converts a value to the JSON of stream records.
fn value(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(self::value).collect::<Vec<_>>() }),
        AttributeValue::M(map) => json!({ "M": object(map) }),
        other => panic!("{other:?} does not occur in commits"),
    }
}

fn object(map: &std::collections::HashMap<String, AttributeValue>) -> Value {
    map.iter().map(|(name, value)| (name.clone(), self::value(value))).collect()
}

/// Records some commits, and returns them as records of the table's stream, in order.
async fn records(store: &DynamoStore) -> Vec<Value> {
    let accounts: Repository<Account> = Repository::new(store.clone());
    for cents in [100, 200, 300] {
        accounts.execute("ann", Deposit { cents }).await.expect("accepted");
    }
    let items = store.client().query().table_name(store.table_name()).consistent_read(true);
    let items = items.key_condition_expression("pk = :pk");
    let found =
        items.expression_attribute_values(":pk", AttributeValue::S("account#ann".to_owned())).send().await;
    let items = found.expect("answers").items.unwrap_or_default();
    (1..)
        .zip(&items)
        .map(|(sequence, item)| {
            json!({
                "eventName": "INSERT",
                "eventSource": "aws:dynamodb",
                "eventSourceARN": format!("arn:aws:dynamodb:eu-central-1:000000000000:table/{}/stream/x", store.table_name()),
                "dynamodb": {
                    "SequenceNumber": format!("{sequence:021}"),
                    "Keys": { "pk": value(&item["pk"]), "sk": value(&item["sk"]) },
                    "NewImage": object(item),
                },
            })
        })
        .collect()
}

/// Returns a record that cannot be decoded.
fn damaged() -> Value {
    json!({ "eventName": "INSERT", "dynamodb": { "SequenceNumber": "damaged", "NewImage": { "pk": 7 } } })
}

#[tokio::test]
async fn the_indexer_reports_the_records_that_failed() {
    let file = file("indexer");
    let store = DynamoStore::embedded_at(&file).await.expect("opens");
    let mut records = records(&store).await;
    records.insert(1, damaged());
    let file = file.to_str().expect("UTF-8");
    let mut indexer = Function::start(env!("CARGO_BIN_EXE_indexer"), &[("ES_EXAMPLE_FILE", file)]).await;

    let response = indexer.responds(json!({ "Records": records })).await;
    assert_eq!(response, json!({ "batchItemFailures": [{ "itemIdentifier": "damaged" }] }));
    let end = store.feed_end(Slice::new(0)).await.expect("reads").position;
    assert_eq!(end.get(), 3, "the others are in the feed");

    // Lambda delivers the batch again from the record that has failed.
    records[1] = records[0].clone();
    let response = indexer.responds(json!({ "Records": records })).await;
    assert_eq!(response, json!({ "batchItemFailures": [] }));
    assert_eq!(store.feed_end(Slice::new(0)).await.expect("reads").position, end, "nothing is indexed twice");

    // Something else than records fails as a whole, and the function goes on.
    let failed = indexer.invoke(json!({ "detail": 7 })).await;
    assert!(matches!(&failed, Invoked::Error(error) if error.to_string().contains("Records")), "{failed:?}");
    assert_eq!(indexer.responds(json!({ "Records": [] })).await, json!({ "batchItemFailures": [] }));
}

/// Returns a request as API Gateway sends it.
fn request(route: &str, id: &str, key: Option<&str>, body: &str) -> Value {
    let (method, path) = route.split_once(' ').expect("a method and a path");
    let path = path.replace("{id}", id);
    let headers = key.map_or(json!({}), |key| json!({ "idempotency-key": key }));
    json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "pathParameters": { "id": id },
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "domainName": "api.example", "domainPrefix": "api",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
            "requestId": "request-7", "routeKey": route, "stage": "$default",
            "time": "27/Nov/2026:12:00:00 +0000", "timeEpoch": 1_795_780_800_000_u64,
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

#[tokio::test]
async fn commands_are_executed_once_per_idempotency_key() {
    const BALANCE: &str = "GET /accounts/{id}";
    const DEPOSIT: &str = "POST /accounts/{id}/deposits";
    const WITHDRAW: &str = "POST /accounts/{id}/withdrawals";
    let file = file("commands");
    let store = DynamoStore::embedded_at(&file).await.expect("opens");
    let path = file.to_str().expect("UTF-8");
    let mut commands = Function::start(env!("CARGO_BIN_EXE_commands"), &[("ES_EXAMPLE_FILE", path)]).await;
    for (route, key, body, status, text) in [
        (BALANCE, None, "", 404, r#"{"error":"there is no such account"}"#),
        (
            DEPOSIT,
            Some("k1"),
            r#"{"cents":500}"#,
            200,
            r#"{"account":"ann","balance_cents":500,"version":1}"#,
        ),
        // The client has repeated its request.
        (
            DEPOSIT,
            Some("k1"),
            r#"{"cents":500}"#,
            200,
            r#"{"account":"ann","balance_cents":500,"version":1}"#,
        ),
        (
            WITHDRAW,
            Some("k2"),
            r#"{"cents":800}"#,
            409,
            r#"{"error":"the balance of 500 cents does not allow this amount"}"#,
        ),
        (
            WITHDRAW,
            Some("k3"),
            r#"{"cents":200}"#,
            200,
            r#"{"account":"ann","balance_cents":300,"version":2}"#,
        ),
        (BALANCE, None, "", 200, r#"{"account":"ann","balance_cents":300,"version":2}"#),
        (DEPOSIT, None, r#"{"cents":1}"#, 400, r#"{"error":"the header Idempotency-Key is missing"}"#),
        (DEPOSIT, Some("k4"), r#"{"cents":0}"#, 409, r#"{"error":"the amount must not be zero"}"#),
        (
            DEPOSIT,
            Some("k5"),
            r#"{"cents":18446744073709551615}"#,
            409,
            r#"{"error":"the balance of 300 cents does not allow this amount"}"#,
        ),
        ("DELETE /accounts/{id}", None, "", 404, r#"{"error":"there is no such page"}"#),
    ] {
        let response = commands.responds(request(route, "ann", key, body)).await;
        assert_eq!(
            (&response["statusCode"], &response["body"]),
            (&json!(status), &json!(text)),
            "{route} {body}"
        );
        assert_eq!(response["headers"]["content-type"], "application/json");
    }
    for body in ["", "{", r#"{"cents":-1}"#, r#"{"cents":"1"}"#, "7"] {
        let response = commands.responds(request(DEPOSIT, "ann", Some("k6"), body)).await;
        assert_eq!(response["statusCode"], 400, "{body}: {response}");
    }
    let reused = commands.responds(request(WITHDRAW, "ann", Some("k1"), r#"{"cents":1}"#)).await;
    assert_eq!(reused["statusCode"], 422, "{reused}");
    let invalid = commands.responds(request(DEPOSIT, "", Some("k7"), r#"{"cents":1}"#)).await;
    assert_eq!(invalid["statusCode"], 400, "{invalid}");

    let accounts: Repository<Account> = Repository::new(store);
    assert_eq!(accounts.version("ann").await.expect("reads"), Version::new(2));
    let mut history = accounts.history("ann");
    let first = history.next().await.expect("an event").expect("reads");
    assert_eq!(first.metadata.correlation(), Some("request-7"));
}

/// Needs a Kinesis-compatible server at `ES_KINESIS_ENDPOINT`: `just lambda` starts one.
#[tokio::test]
#[ignore = "needs a Kinesis-compatible server"]
async fn the_publisher_reports_the_first_record_that_failed() {
    let endpoint = std::env::var("ES_KINESIS_ENDPOINT").expect("the server's address");
    let client = kinesis(&endpoint).await;
    let store = DynamoStore::embedded().await.expect("opens");
    let records = records(&store).await;
    let variables = [
        ("DATA_STREAM", "events"),
        ("AWS_ENDPOINT_URL_KINESIS", endpoint.as_str()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let mut publisher = Function::start(env!("CARGO_BIN_EXE_publisher"), &variables).await;
    let batch = json!({ "Records": [records[0], damaged(), records[1], records[2]] });
    let response = publisher.responds(batch).await;
    assert_eq!(response, json!({ "batchItemFailures": [{ "itemIdentifier": "damaged" }] }));
    let response = publisher.responds(json!({ "Records": [records[1], records[2]] })).await;
    assert_eq!(response, json!({ "batchItemFailures": [] }));
    assert_eq!(published(&client).await, [1, 2, 3]);
}

/// Creates the data stream.
async fn kinesis(endpoint: &str) -> aws_sdk_kinesis::Client {
    let client = KinesisPublisher::client_at(endpoint);
    client.create_stream().stream_name("events").shard_count(1).send().await.expect("created");
    loop {
        let found = client.describe_stream().stream_name("events").send().await.expect("answers");
        let description = found.stream_description.expect("a description");
        if *description.stream_status() == aws_sdk_kinesis::types::StreamStatus::Active {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the versions of the published events.
async fn published(client: &aws_sdk_kinesis::Client) -> Vec<u64> {
    use aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon;

    let shards =
        client.list_shards().stream_name("events").send().await.expect("answers").shards.expect("shards");
    let iterator = client.get_shard_iterator().stream_name("events").shard_id(&shards[0].shard_id);
    let iterator = iterator.shard_iterator_type(TrimHorizon).send().await.expect("answers").shard_iterator;
    let found =
        client.get_records().shard_iterator(iterator.expect("an iterator")).send().await.expect("answers");
    let version = |record: &aws_sdk_kinesis::types::Record| {
        let event: Value = serde_json::from_slice(record.data().as_ref()).expect("JSON");
        let version = &event["sequence"];
        version.as_u64().or_else(|| version.as_str()?.parse().ok()).expect("a sequence")
    };
    found.records.iter().map(version).collect()
}
