//! The spans of requests, with the names of OpenTelemetry.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use futures_util::FutureExt;
use tracing::{Instrument, debug_span, field};

/// The `error.type` of an error without a code, such as a timeout.
const OTHER: &str = "_OTHER";

/// Sends a request in a span at DEBUG, with the [attributes of DynamoDB
/// clients](https://opentelemetry.io/docs/specs/semconv/db/dynamodb/).
pub(crate) fn traced<T, E: ProvideErrorMetadata>(
    operation: &'static str,
    table: &str,
    request: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let span = debug_span!(
        "dynamodb",
        otel.name = operation,
        otel.kind = "client",
        db.system.name = "aws.dynamodb",
        db.operation.name = operation,
        db.collection.name = table,
        "error.type" = field::Empty,
    );
    let request = request.instrument(span.clone());
    // A combinator, because an `async` block would copy the future of the request, which is several KB in size.
    request.map(move |result| {
        result.inspect_err(|error| {
            span.record("error.type", error.code().unwrap_or(OTHER));
        })
    })
}
