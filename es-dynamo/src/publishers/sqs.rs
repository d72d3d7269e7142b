//! Amazon SQS.

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use es_core::publish::{BatchLimits, Envelope, PublishError, Publisher};

use super::errors::Destination;
use super::message::{MAX_MESSAGES, Outcomes, STRING, attributes, group_id, size, xml_text};
#[cfg(feature = "aws")]
use crate::services;
#[cfg(feature = "aws")]
use crate::table::client::default_timeouts;
use crate::table::{attempts, watched};

/// The maximum size of a request, and of a message with its attributes, in bytes
/// ([quotas](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html)).
const REQUEST_BYTES: usize = 1 << 20;

/// Publishes events to a queue of Amazon SQS: one message per event.
///
/// ```
/// use es_core::publish::{CloudEvents, Publishing};
/// use es_core::{BoxError, Projector, feed::Feed};
/// use es_dynamo::publishers::SqsPublisher;
///
/// # async fn example(store: impl Feed, client: aws_sdk_sqs::Client) -> Result<(), BoxError> {
/// let queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders.fifo";
/// let publisher = SqsPublisher::new(client, queue);
/// let publishing = Publishing::new("to_sqs", publisher, CloudEvents::source("https://shop.example/orders")?);
/// Projector::new(store, publishing).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Order
///
/// A FIFO queue, whose name ends with `.fifo`, delivers the events of a stream in order. The message group id is the
/// name of the stream or, if it is longer than 128 characters or contains a character that SQS does not allow, its
/// SHA-256 digest. The deduplication id is the event id, so that the queue removes events that are sent again within 5
/// minutes.
///
/// A standard queue may deliver messages in another order, and more than once.
///
/// # Messages
///
/// The body is the envelope, which must be text. The message attributes are `content-type`, the media type of the
/// envelope, and `event-name`, the stored name of the event.
///
/// SQS accepts at most 1 MiB per message and request, or less if `MaximumMessageSize` of the queue is lower: see
/// [`message_limit`](Self::message_limit).
#[derive(Debug)]
pub struct SqsPublisher {
    client: Client,
    queue_url: String,
    message_limit: usize,
}

impl SqsPublisher {
    /// Returns a publisher to the queue with this URL. The client must be in the region of the queue.
    #[must_use]
    pub fn new(client: Client, queue_url: impl Into<String>) -> Self {
        let mut config = client.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        let client = Client::from_conf(config.build());
        Self { client, queue_url: queue_url.into(), message_limit: REQUEST_BYTES }
    }

    /// Returns a publisher to the queue, with a client from the environment and the timeouts of
    /// [`DynamoStore::from_env`](crate::DynamoStore::from_env).
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(queue_url: impl Into<String>) -> Self {
        Self::new(Client::new(&services::from_env(default_timeouts()).await), queue_url)
    }

    /// Returns a client of an SQS-compatible server at `url`, without credentials, for tests.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    #[must_use]
    pub fn client_at(url: impl Into<String>) -> Client {
        Client::new(&services::at(url, default_timeouts()))
    }

    /// Sets the maximum size of a message in bytes, including its attributes (default and maximum: 1 MiB). Set it to
    /// `MaximumMessageSize` of the queue if that is lower, so that the error of a larger event names its size.
    #[must_use]
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.message_limit = bytes.min(REQUEST_BYTES);
        self
    }

    fn destination(&self) -> Destination<'_> {
        Destination {
            kind: "queue",
            name: &self.queue_url,
            permissions: "sqs:SendMessage",
            missing: &["NonExistentQueue", "QueueDoesNotExist"],
            permanent: &[
                "BatchRequestTooLong",
                "InvalidAttributeValue",
                "InvalidMessageContents",
                "InvalidParameterValue",
                "Validation",
            ],
        }
    }

    fn entry(&self, index: usize, envelope: &Envelope) -> Result<SendMessageBatchRequestEntry, PublishError> {
        let body = xml_text(envelope, "SQS")?;
        let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body);
        for (name, value) in attributes(envelope) {
            let value = MessageAttributeValue::builder().data_type(STRING).string_value(value).build();
            entry = entry.message_attributes(name, value.map_err(permanent)?);
        }
        if self.queue_url.ends_with(".fifo") {
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
impl Publisher for SqsPublisher {
    fn system(&self) -> &'static str {
        "aws_sqs"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::default().envelopes(MAX_MESSAGES).bytes(REQUEST_BYTES).envelope_bytes(self.message_limit)
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
        let request = self.client.send_message_batch().queue_url(&self.queue_url);
        let output = watched(request.set_entries(Some(entries)).send()).await;
        let output = output.map_err(|failed| self.destination().error(failed))?;
        for accepted in output.successful() {
            outcomes.set(accepted.id(), Ok(()));
        }
        for failed in output.failed() {
            let error = self.destination().refused(Some(failed.code()), failed.message());
            outcomes.set(failed.id(), Err(error));
        }
        Ok(outcomes.into_vec())
    }
}
