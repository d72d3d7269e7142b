//! Clients that change requests and responses, for example to encrypt items.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemInput;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, FinalizerInterceptorContextMut,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use es_core::store::Read;
use es_dynamo::DynamoStore;
use es_dynamo::embedded::Engine;

use super::support::*;

/// The attribute in which the client stores events.
const HIDDEN: &str = "hidden";

/// Renames the attribute with the events in all requests and responses.
#[derive(Debug)]
struct Hide;

impl Intercept for Hide {
    fn name(&self) -> &'static str {
        "Hide"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(put) = context.input_mut().downcast_mut::<PutItemInput>() {
            rename(put.item.as_mut().expect("an item"), "ev", HIDDEN);
        }
        Ok(())
    }

    fn modify_before_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Ok(output)) = context.output_or_error_mut()
            && let Some(found) = output.downcast_mut::<QueryOutput>()
        {
            found.items.iter_mut().flatten().for_each(|item| rename(item, HIDDEN, "ev"));
        }
        Ok(())
    }
}

fn rename(item: &mut Item, from: &str, to: &str) {
    if let Some(value) = item.remove(from) {
        item.insert(to.to_owned(), value);
    }
}

#[tokio::test]
async fn interceptors_may_change_requests_and_responses() {
    let engine = Engine::in_memory().expect("an engine");
    let plain = engine.store().await.expect("a store");
    let config = engine.client().config().to_builder().interceptor(Hide).build();
    let hiding = DynamoStore::builder().client(Client::from_conf(config)).build().expect("valid");

    grow(&hiding, &[1, 3]).await;
    assert_eq!(ends_of(&pages(&hiding, Read::all(stream())).await.expect("reads")), [(1, 1), (2, 4)]);
    let error = pages(&plain, Read::all(stream())).await.expect_err("the events are hidden");
    assert!(error.to_string().contains("attributes is missing"), "{error}");
}
