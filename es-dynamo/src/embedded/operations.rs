//! The operations of the engine, by their names in DynamoDB.

use dynoxide::DynoxideError;

use super::failure::Failure;
use super::storage::Storage;
use crate::table::names;

/// The operations that may write commits.
const WRITES: [&str; 4] = ["PutItem", "TransactWriteItems", "BatchWriteItem", "UpdateItem"];

/// The response of the engine.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Executes a request, whose target is for example `DynamoDB_20120810.PutItem`, and whose body is the input.
pub(crate) fn execute(storage: &Storage, target: &str, body: &[u8]) -> Answer {
    let operation = target.rsplit('.').next().unwrap_or_default();
    let answer = match dispatch(storage, operation, body) {
        Ok(body) => Answer { status: 200, body },
        Err(DynoxideError::UnsupportedCapability(_)) => Answer { status: 400, body: unknown(operation) },
        Err(error) if error.status_code() >= 500 => failed(&Failure::of(&error.to_string())),
        Err(error) => Answer { status: error.status_code(), body: error.to_json() },
    };
    // The notification is sent here, so that it does not depend on the caller, which may no longer wait for the
    // response.
    if WRITES.contains(&operation) && may_hold_commit(body) {
        storage.written.notify(usize::MAX);
    }
    answer
}

/// Returns whether a request contains the sort key of a commit. This is a hint only; the outbox has the commits.
fn may_hold_commit(body: &[u8]) -> bool {
    let prefix = names::COMMIT_PREFIX.as_bytes();
    body.windows(1 + prefix.len()).any(|window| window[0] == b'"' && &window[1..] == prefix)
}

/// Generates one arm per operation, which decodes the input, calls the method, and encodes the output.
macro_rules! operations {
    ($($name:literal => $method:ident,)*) => {
        fn dispatch(storage: &Storage, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
            match operation {
                $($name => {
                    let input = serde_json::from_slice(body).map_err(unreadable)?;
                    let output = storage.request(|database| database.$method(input))?;
                    serde_json::to_string(&output).map_err(unwritable)
                })*
                "TransactWriteItems" => {
                    let input = serde_json::from_slice(body).map_err(unreadable)?;
                    let output = storage.transact(input)?;
                    serde_json::to_string(&output).map_err(unwritable)
                }
                _ => Err(DynoxideError::UnsupportedCapability(operation.to_owned())),
            }
        }
    };
}

operations! {
    "BatchGetItem" => batch_get_item,
    "BatchWriteItem" => batch_write_item,
    "CreateTable" => create_table,
    "DeleteItem" => delete_item,
    "DeleteTable" => delete_table,
    "DescribeStream" => describe_stream,
    "DescribeTable" => describe_table,
    "DescribeTimeToLive" => describe_time_to_live,
    "GetItem" => get_item,
    "GetRecords" => get_records,
    "GetShardIterator" => get_shard_iterator,
    "ListStreams" => list_streams,
    "ListTables" => list_tables,
    "PutItem" => put_item,
    "Query" => query,
    "Scan" => scan,
    "TransactGetItems" => transact_get_items,
    "UpdateItem" => update_item,
    "UpdateTable" => update_table,
    "UpdateTimeToLive" => update_time_to_live,
}

/// Returns the response to a failure of SQLite. The SDK retries the request only if the failure is transient.
fn failed(failure: &Failure) -> Answer {
    let (status, code) = match failure.is_transient() {
        true => (500, "com.amazonaws.dynamodb.v20120810#InternalServerError"),
        false => (400, "es-dynamo#EmbeddedEngineFailure"),
    };
    let body = serde_json::json!({ "__type": code, "message": failure.to_string() }).to_string();
    Answer { status, body }
}

/// Returns the body of the error response for an unknown operation.
fn unknown(operation: &str) -> String {
    let message = format!("the embedded engine has no operation {operation}");
    serde_json::json!({ "__type": "com.amazon.coral.service#UnknownOperationException", "message": message })
        .to_string()
}

/// Returns the error for an input that cannot be decoded. The error of the engine's types contains the validation
/// message.
fn unreadable(error: serde_json::Error) -> DynoxideError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.trim_start_matches("VALIDATION:").trim_start_matches("VALIDATION_REQUEST:");
    DynoxideError::ValidationException(message.to_owned())
}

fn unwritable(error: serde_json::Error) -> DynoxideError {
    DynoxideError::InternalServerError(format!("the response cannot be encoded: {error}"))
}
