//! Amazon EventBridge.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use es_core::publish::{BatchLimits, Envelope, PublishError, Publisher};

use super::errors::Destination;
use super::message::{MAX_MESSAGES, text};
#[cfg(feature = "aws")]
use crate::services;
#[cfg(feature = "aws")]
use crate::table::client::default_timeouts;
use crate::table::{attempts, watched};

/// The maximum size of a request, and of an entry, in bytes: it must be
/// [less than 1 MiB](https://aws.amazon.com/blogs/compute/more-room-to-build-serverless-services-now-support-payloads-up-to-1-mb).
const REQUEST_BYTES: usize = (1 << 20) - 1;

/// The maximum length of a detail type in characters.
const MAX_DETAIL_TYPE_CHARS: usize = 128;

/// How long a bus is known to exist after a check.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Publishes events to an event bus of Amazon EventBridge: one entry per event.
///
/// ```
/// use es_core::publish::{CloudEvents, Publishing};
/// use es_core::{BoxError, Projector, feed::Feed};
/// use es_dynamo::publishers::EventBridgePublisher;
///
/// # async fn example(store: impl Feed, client: aws_sdk_eventbridge::Client) -> Result<(), BoxError> {
/// let publisher = EventBridgePublisher::new(client, "orders", "example.shop");
/// let envelopes = CloudEvents::source("https://shop.example/orders")?;
/// let publishing = Publishing::new("to_eventbridge", publisher, envelopes);
/// Projector::new(store, publishing).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Order
///
/// EventBridge delivers events in any order, and may deliver them more than once. Consumers that depend on the order
/// must compare the version in the stream (`detail.sequence` of [`CloudEvents`](es_core::publish::CloudEvents)).
///
/// # Entries
///
/// | property | value |
/// |---|---|
/// | `source` | the source passed to [`new`](Self::new) |
/// | `detail-type` | the stored name of the event, at most 128 characters |
/// | `detail` | the envelope, which must be a JSON object |
///
/// EventBridge accepts entries and requests of less than 1 MiB.
///
/// # A bus that does not exist
///
/// EventBridge [accepts](https://github.com/aws/aws-sdk/issues/186) events for a bus that does not exist, and discards
/// them. Therefore, the publisher checks with `DescribeEventBus` that the bus exists, before the first request and then
/// every minute. [`without_bus_check`](Self::without_bus_check) turns this off.
#[derive(Debug)]
pub struct EventBridgePublisher {
    client: Client,
    bus: String,
    source: String,
    check: Option<Check>,
}

/// When the bus was last known to exist.
#[derive(Debug, Default)]
struct Check(Mutex<Option<Instant>>);

impl EventBridgePublisher {
    /// Returns a publisher to the event bus with this name or ARN.
    ///
    /// `source` identifies the application in the patterns of rules, as in `example.shop`. Sources that start with
    /// `aws.` are reserved.
    #[must_use]
    pub fn new(client: Client, bus: impl Into<String>, source: impl Into<String>) -> Self {
        let mut config = client.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        let client = Client::from_conf(config.build());
        Self { client, bus: bus.into(), source: source.into(), check: Some(Check::default()) }
    }

    /// Returns a publisher to the event bus, with a client from the environment and the timeouts of
    /// [`DynamoStore::from_env`](crate::DynamoStore::from_env).
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(bus: impl Into<String>, source: impl Into<String>) -> Self {
        Self::new(Client::new(&services::from_env(default_timeouts()).await), bus, source)
    }

    /// Returns a client of an EventBridge-compatible server at `url`, without credentials, for tests.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    #[must_use]
    pub fn client_at(url: impl Into<String>) -> Client {
        Client::new(&services::at(url, default_timeouts()))
    }

    /// Does not check that the bus exists. Use it if the role must not have the permission `events:DescribeEventBus`,
    /// for example for a bus of another account.
    #[must_use]
    pub fn without_bus_check(mut self) -> Self {
        self.check = None;
        self
    }

    fn destination(&self) -> Destination<'_> {
        Destination {
            kind: "event bus",
            name: &self.bus,
            permissions: match self.check {
                Some(_) => "events:PutEvents and events:DescribeEventBus",
                None => "events:PutEvents",
            },
            missing: &["ResourceNotFound"],
            permanent: &["InvalidArgument", "MalformedDetail", "Serialization", "Validation"],
        }
    }

    /// Checks that the bus exists, unless it was checked recently.
    async fn check_bus(&self) -> Result<(), PublishError> {
        let Some(Check(checked)) = &self.check else { return Ok(()) };
        let last = *checked.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < CHECK_INTERVAL) {
            return Ok(());
        }
        let described = watched(self.client.describe_event_bus().name(&self.bus).send()).await;
        described.map_err(|failed| {
            // A request that is invalid says nothing about the events.
            PublishError::transient(self.destination().error(failed))
        })?;
        *checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    fn entry(&self, envelope: &Envelope) -> Result<PutEventsRequestEntry, PublishError> {
        let chars = envelope.name().chars().count();
        // EventBridge would accept the entry and discard it.
        if chars > MAX_DETAIL_TYPE_CHARS {
            return Err(PublishError::permanent(format!(
                "the event name has {chars} characters, and EventBridge accepts at most {MAX_DETAIL_TYPE_CHARS}"
            )));
        }
        let entry = PutEventsRequestEntry::builder().event_bus_name(&self.bus).source(&self.source);
        Ok(entry.detail_type(envelope.name()).detail(text(envelope, "EventBridge")?).build())
    }
}

#[async_trait]
impl Publisher for EventBridgePublisher {
    fn system(&self) -> &'static str {
        "aws_eventbridge"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::default().envelopes(MAX_MESSAGES).bytes(REQUEST_BYTES).envelope_bytes(REQUEST_BYTES)
    }

    fn size(&self, envelope: &Envelope) -> usize {
        self.source.len() + envelope.name().len() + envelope.body().len()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        self.check_bus().await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.len());
        for envelope in batch {
            outcomes.push(self.entry(envelope).map(|entry| entries.push(entry)));
        }
        if entries.is_empty() {
            return Ok(outcomes);
        }
        let output = watched(self.client.put_events().set_entries(Some(entries)).send()).await;
        let output = output.map_err(|failed| self.destination().error(failed))?;
        // The results are in the order of the entries.
        let mut results = output.entries().iter();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            let result = results.next();
            if result.is_none_or(|result| result.event_id().is_none_or(str::is_empty)) {
                let (code, message) = result.map_or((None, None), |it| (it.error_code(), it.error_message()));
                *outcome = Err(self.destination().refused(code, message));
            }
        }
        Ok(outcomes)
    }
}
