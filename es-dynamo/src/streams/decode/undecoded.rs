//! The interceptor that keeps responses undecoded.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::query::{Query, QueryInput, QueryOutput};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, Error, Output,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, SharedInterceptor, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer, Layer};

use super::KEY_RANGE;

/// The name of the attribute that holds the text. DynamoDB has no attributes with an empty name.
const TEXT: &str = "";

/// Returns an interceptor that keeps the responses to queries for whole items by [`KEY_RANGE`] undecoded.
pub(crate) fn interceptor() -> SharedInterceptor {
    // A permanent interceptor is faster: the SDK does not check at every step whether it is disabled.
    SharedInterceptor::permanent(LeaveUndecoded::new())
}

/// Takes the text out of an undecoded response.
pub(crate) fn take_text(output: &mut QueryOutput) -> Option<Vec<u8>> {
    match output.items.as_deref_mut() {
        Some([item]) => match item.remove(TEXT) {
            Some(AttributeValue::B(text)) => Some(text.into_inner()),
            _ => None,
        },
        _ => None,
    }
}

/// Decodes a text with the SDK. `None` if the SDK rejects it, too.
pub(crate) fn decode(text: Vec<u8>) -> Option<QueryOutput> {
    let response = HttpResponse::new(StatusCode::try_from(200).ok()?, SdkBody::from(text));
    let decoded = Decoder::new().sdk().deserialize_nonstreaming_with_config(&response, &ConfigBag::base());
    decoded.ok()?.downcast().ok()
}

#[derive(Debug)]
struct LeaveUndecoded {
    /// The configuration that replaces the decoder of a query. It is shared, because a value in the state of the
    /// interceptors would be allocated for each query, and make the map of that state grow.
    config: FrozenLayer,
}

impl LeaveUndecoded {
    fn new() -> Self {
        let mut config = Layer::new("LeaveUndecoded");
        config.store_put(SharedResponseDeserializer::new(Decoder::new()));
        Self { config: config.freeze() }
    }
}

#[dyn_dispatch_hint]
impl Intercept for LeaveUndecoded {
    fn name(&self) -> &'static str {
        "LeaveUndecoded"
    }

    // In an earlier hook, the configuration of the operation, which has a decoder, would come later and take precedence.
    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_concerned = |query: &QueryInput| {
            query.key_condition_expression() == Some(KEY_RANGE) && query.projection_expression().is_none()
        };
        if context.input().downcast_ref().is_some_and(is_concerned) {
            config.push_shared_layer(self.config.clone());
        }
        Ok(())
    }
}

/// Stores the text of a successful response in place of its items. The SDK decodes all other responses.
#[derive(Debug)]
struct Decoder {
    /// The configuration of the SDK's own operation.
    query: FrozenLayer,
}

impl Decoder {
    fn new() -> Self {
        Self { query: Query::new().config().expect("an operation has a configuration") }
    }

    fn sdk(&self) -> &SharedResponseDeserializer {
        self.query.load::<SharedResponseDeserializer>().expect("an operation has a deserializer")
    }
}

impl DeserializeResponse for Decoder {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        config: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        match response.body().bytes() {
            Some(text) if response.status().is_success() => {
                let text = AttributeValue::B(Blob::new(text));
                let item = HashMap::from([(TEXT.to_owned(), text)]);
                Ok(Output::erase(QueryOutput::builder().items(item).build()))
            }
            _ => self.sdk().deserialize_nonstreaming_with_config(response, config),
        }
    }
}
