//! Amazon SNS.

use async_trait::async_trait;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::{BuildError, ProvideErrorMetadata};
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use es_core::publish::{BatchLimits, Envelope, PublishError, Publisher};

use super::errors::Destination;
use super::message::{MAX_MESSAGES, Outcomes, STRING, attributes, group_id, size, xml_text};
#[cfg(feature = "aws")]
use crate::services;
#[cfg(feature = "aws")]
use crate::table::client::default_timeouts;
use crate::table::{attempts, watched};

/// The default maximum size of a request, and of a message with its attributes, in bytes.
const MESSAGE_BYTES: usize = 256 << 10;

/// The highest maximum size of a message that a topic can be configured for.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Publishes events to a topic of Amazon SNS: one message per event.
///
/// ```
/// use es_core::publish::{CloudEvents, Publishing};
/// use es_core::{BoxError, Projector, feed::Feed};
/// use es_dynamo::publishers::SnsPublisher;
///
/// # async fn example(store: impl Feed, client: aws_sdk_sns::Client) -> Result<(), BoxError> {
/// let publisher = SnsPublisher::new(client, "arn:aws:sns:eu-west-1:123456789012:orders.fifo");
/// let publishing = Publishing::new("to_sns", publisher, CloudEvents::source("https://shop.example/orders")?);
/// Projector::new(store, publishing).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Order
///
/// A FIFO topic, whose name ends with `.fifo`, delivers the events of a stream in order to its subscribed FIFO queues.
/// The message group id is the name of the stream or, if it is longer than 128 characters or contains a character that
/// SNS does not allow, its SHA-256 digest. The deduplication id is the event id, so that the topic removes events that
/// are sent again within 5 minutes.
///
/// A standard topic may deliver messages in another order, and more than once.
///
/// # Messages
///
/// The message is the envelope, which must be text. The message attributes, which the filter policy of a subscription
/// can use, are `content-type`, the media type of the envelope, and `event-name`, the stored name of the event.
///
/// SNS accepts at most 256 KiB per message and request, or up to 1 MiB if the topic is configured for it: see
/// [`message_limit`](Self::message_limit).
#[derive(Debug)]
pub struct SnsPublisher {
    client: Client,
    topic: String,
    message_limit: usize,
}

impl SnsPublisher {
    /// Returns a publisher to the topic with this ARN. The client must be in the region of the topic.
    #[must_use]
    pub fn new(client: Client, topic_arn: impl Into<String>) -> Self {
        let mut config = client.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        let client = Client::from_conf(config.build());
        Self { client, topic: topic_arn.into(), message_limit: MESSAGE_BYTES }
    }

    /// Returns a publisher to the topic, with a client from the environment and the timeouts of
    /// [`DynamoStore::from_env`](crate::DynamoStore::from_env).
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(topic_arn: impl Into<String>) -> Self {
        Self::new(Client::new(&services::from_env(default_timeouts()).await), topic_arn)
    }

    /// Returns a client of an SNS-compatible server at `url`, without credentials, for tests.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    #[must_use]
    pub fn client_at(url: impl Into<String>) -> Client {
        Client::new(&services::at(url, default_timeouts()))
    }

    /// Sets the maximum size of a message in bytes, including its attributes, and of a request (default: 256 KiB, at
    /// most 1 MiB). `MaximumMessageSize` of the topic must be at least as high.
    #[must_use]
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.message_limit = bytes.min(MAX_MESSAGE_BYTES);
        self
    }

    fn destination(&self) -> Destination<'_> {
        Destination {
            kind: "topic",
            name: &self.topic,
            permissions: "sns:Publish",
            missing: &["NotFound"],
            permanent: &[
                "BatchRequestTooLong",
                "InvalidParameter",
                "InvalidParameterValue",
                "ParameterValueInvalid",
                "Validation",
                "ValidationError",
            ],
        }
    }

    fn entry(&self, index: usize, envelope: &Envelope) -> Result<PublishBatchRequestEntry, PublishError> {
        let message = xml_text(envelope, "SNS")?;
        let mut entry = PublishBatchRequestEntry::builder().id(index.to_string()).message(message);
        for (name, value) in attributes(envelope) {
            let value = MessageAttributeValue::builder().data_type(STRING).string_value(value).build();
            entry = entry.message_attributes(name, value.map_err(permanent)?);
        }
        if self.topic.ends_with(".fifo") {
            let event = envelope.id().to_string();
            entry = entry.message_group_id(group_id(envelope)).message_deduplication_id(event);
        }
        entry.build().map_err(permanent)
    }
}

fn permanent(error: BuildError) -> PublishError {
    PublishError::permanent(error)
}

#[async_trait]
impl Publisher for SnsPublisher {
    fn system(&self) -> &'static str {
        "aws.sns"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
            .envelopes(MAX_MESSAGES)
            .bytes(self.message_limit)
            .envelope_bytes(self.message_limit)
    }

    fn size(&self, envelope: &Envelope) -> usize {
        size(envelope)
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let (mut outcomes, entries) =
            Outcomes::of_entries(batch, |index, envelope| self.entry(index, envelope));
        if entries.is_empty() {
            return Ok(outcomes.into_vec());
        }
        let request = self.client.publish_batch().topic_arn(&self.topic);
        let output = watched(request.set_publish_batch_request_entries(Some(entries)).send()).await;
        let output = output.map_err(|failed| {
            let names_topic = failed.message().is_some_and(|message| message.contains("TopicArn"));
            match self.destination().error(failed) {
                // The error of an invalid ARN says nothing about the messages.
                error if names_topic => {
                    PublishError::transient(format!("the topic ARN `{}` is not valid: {error}", self.topic))
                }
                error => error,
            }
        })?;
        for accepted in output.successful() {
            outcomes.set(accepted.id().unwrap_or_default(), Ok(()));
        }
        for failed in output.failed() {
            let error = self.destination().refused(Some(failed.code()), failed.message());
            outcomes.set(failed.id(), Err(error));
        }
        Ok(outcomes.into_vec())
    }
}
