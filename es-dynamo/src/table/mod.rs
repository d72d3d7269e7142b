//! The table: requests for items, independent of their content.
//!
//! This is the lowest layer. It knows the names of keys and attributes, limits and capacity units, lost responses and
//! failed conditions, but it does not know about streams, documents, or the feed.

pub(crate) mod admin;
pub(crate) mod attempts;
mod batch;
pub(crate) mod client;
mod errors;
mod item;
pub(crate) mod names;
pub(crate) mod responses;
pub(crate) mod retry;
mod sending;
mod spans;
mod transactions;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::delete_item::builders::DeleteItemFluentBuilder;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::query::{QueryError, QueryOutput};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};
use aws_smithy_runtime_api::client::interceptors::SharedInterceptor;
use es_core::{Cost, StoreError};

use crate::streams::objects::ObjectStore;
pub(crate) use attempts::{ConditionFailed, Failed, qualified, watched};
pub(crate) use batch::{BatchGet, MAX_KEYS};
pub use errors::CredentialsUnavailable;
#[cfg(any(
    feature = "eventbridge",
    feature = "kinesis",
    feature = "s3",
    feature = "sns",
    feature = "sqs"
))]
pub(crate) use errors::no_credentials;
#[cfg(feature = "s3")]
pub(crate) use errors::no_region;
#[cfg(feature = "kms")]
pub(crate) use errors::translate_general;
#[cfg(any(
    feature = "eventbridge",
    feature = "kinesis",
    feature = "kms",
    feature = "s3",
    feature = "sns",
    feature = "sqs"
))]
pub(crate) use errors::{cause, refusal_code};
pub(crate) use errors::{outcome_unknown, translate};
pub(crate) use item::{Item, check_format, item_size, key, unknown_format, value_size};
pub(crate) use responses::{ItemPage, check_key, required};
use sending::Sender;
pub(crate) use spans::traced;
pub(crate) use transactions::{Cancelled, PutIf, Reason, Transacted, build_error, cancelled};

/// The condition that there is no item with the key yet.
pub(crate) const PLACE_IS_FREE: &str = "attribute_not_exists(pk)";

/// The condition of a Query for the sort keys between two, both included. Its values are those of [`Table::query`].
pub(crate) const KEY_RANGE: &str = "pk = :pk AND sk BETWEEN :from AND :to";

/// The consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// From any replica, which may lag behind, at half the units.
    Eventual,
    Strong,
}

/// A table, and its client.
pub(crate) struct Table {
    /// The application's client.
    pub(crate) given: Client,
    /// The client with the interceptors that this crate's requests need.
    pub(crate) client: Client,
    pub(crate) name: String,
    /// The size in bytes above which the events of a commit are compressed.
    pub(crate) compress_above: Option<u64>,
    /// The payload store for events and snapshots that do not fit into items, if there is one.
    pub(crate) objects: Option<ObjectStore>,
    queries: Sender<QueryFluentBuilder, Result<QueryOutput, SdkError<QueryError>>>,
    puts: Sender<PutItemFluentBuilder, Result<PutItemOutput, Failed<PutItemError>>>,
}

/// The outcome of a write that may have a condition.
pub(crate) enum Written {
    Done(Cost),
    /// The condition failed.
    Refused(ConditionFailed),
}

impl Written {
    /// Returns the cost of an operation that writes `bytes`, and whose condition may fail.
    pub(crate) fn cost(self, operation: &'static str, bytes: u64) -> Cost {
        match self {
            Self::Done(cost) => cost,
            Self::Refused(_) => responses::failed_write_cost(operation, bytes, 0),
        }
    }
}

impl Table {
    /// Returns the table `name` of `client`.
    ///
    /// `decoder` is added to the interceptors of the client, unless the client has any: interceptors of the application
    /// may need the decoded response, for example to decrypt it.
    pub(crate) fn new(client: Client, name: String, decoder: SharedInterceptor) -> Self {
        let mut config = client.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        if client.config().interceptors().next().is_none() {
            config.push_interceptor(decoder);
        }
        Self {
            given: client,
            client: Client::from_conf(config.build()),
            name,
            compress_above: None,
            objects: None,
            queries: Sender::new(QueryFluentBuilder::send),
            puts: Sender::new(|put: PutItemFluentBuilder| watched(put.send())),
        }
    }

    /// Reads the item with a key, strongly consistent.
    pub(crate) async fn get(&self, key: Item) -> Result<(Option<Item>, Cost), StoreError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key.clone()))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = traced("GetItem", &self.name, request.send()).await;
        let output = output.map_err(|error| translate(&self.name, error))?;
        let cost = responses::read_cost("GetItem", &self.name, output.consumed_capacity())?;
        check_key(output.item.as_ref(), &key)?;
        Ok((output.item, cost))
    }

    /// Returns a strongly consistent Query for the sort keys from `from` to `to`, both included.
    pub(crate) fn query(
        &self,
        partition: impl Into<String>,
        from: impl Into<String>,
        to: impl Into<String>,
    ) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .key_condition_expression(KEY_RANGE)
            .expression_attribute_values(":pk", AttributeValue::S(partition.into()))
            .expression_attribute_values(":from", AttributeValue::S(from.into()))
            .expression_attribute_values(":to", AttributeValue::S(to.into()))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// Sends a Query.
    pub(crate) fn send_query(
        &self,
        query: QueryFluentBuilder,
    ) -> impl Future<Output = Result<QueryOutput, StoreError>> + Send {
        let sent = traced("Query", &self.name, self.queries.send(query));
        async move { sent.await.map_err(|error| translate(&self.name, error)) }
    }

    /// Returns a request that puts `item`.
    pub(crate) fn put_request(&self, item: Item) -> PutItemFluentBuilder {
        self.client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// Sends a put. It returns the existing item of a failed condition only if the request asks for it.
    pub(crate) fn put(
        &self,
        request: PutItemFluentBuilder,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send {
        let sent = traced("PutItem", &self.name, self.puts.send(request));
        async move {
            match sent.await {
                Ok(output) => {
                    let cost = responses::write_cost("PutItem", &self.name, output.consumed_capacity())?;
                    Ok(Written::Done(cost))
                }
                Err(failed) => failed.condition(&self.name).map(Written::Refused),
            }
        }
    }

    /// Puts an item if its key is free. Otherwise, the existing item is returned.
    pub(crate) fn put_if_absent(
        &self,
        item: Item,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send {
        self.put(
            self.put_request(item)
                .condition_expression(PLACE_IS_FREE)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld),
        )
    }

    /// Returns a request that deletes the item with `key`.
    pub(crate) fn delete_request(&self, key: Item) -> DeleteItemFluentBuilder {
        self.client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// Sends a delete. It returns the existing item of a failed condition only if the request asks for it.
    pub(crate) async fn delete(&self, request: DeleteItemFluentBuilder) -> Result<Written, StoreError> {
        match traced("DeleteItem", &self.name, watched(request.send())).await {
            Ok(output) => {
                let cost = responses::write_cost("DeleteItem", &self.name, output.consumed_capacity())?;
                Ok(Written::Done(cost))
            }
            Err(failed) => failed.condition(&self.name).map(Written::Refused),
        }
    }
}
