//! Amazon Kinesis Data Streams.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use es_core::StreamId;
use es_core::publish::{BatchLimits, Envelope, PublishError, Publisher};
use futures_core::future::BoxFuture;
use futures_util::future::join;
use futures_util::{FutureExt, StreamExt, stream};

use super::errors::Destination;
#[cfg(feature = "aws")]
use crate::services;
#[cfg(feature = "aws")]
use crate::table::client::default_timeouts;
use crate::table::{attempts, watched};

/// The maximum number of records in a PutRecords request
/// ([quotas](https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html)).
const MAX_RECORDS: usize = 500;

/// The maximum size of a PutRecords request in bytes that all data streams accept. Since October 2025, it is 10 MiB in
/// most regions
/// ([announcement](https://aws.amazon.com/blogs/big-data/amazon-kinesis-data-streams-now-supports-10x-larger-record-sizes-simplifying-real-time-data-processing/)),
/// but larger requests have no advantage.
const REQUEST_BYTES: usize = 5 << 20;

/// The default maximum size of a record in bytes, including its partition key.
const RECORD_BYTES: usize = 1 << 20;

/// The highest maximum size of a record that a data stream can be configured for.
const MAX_RECORD_BYTES: usize = 10 << 20;

/// The maximum length of a partition key in characters.
const MAX_KEY_CHARS: usize = 256;

/// The maximum number of concurrent PutRecord requests.
const MAX_CONCURRENT: usize = 32;

/// Publishes events to a Kinesis data stream: one record per event, with the event's stream as the partition key.
///
/// ```
/// use es_core::publish::{CloudEvents, Publishing};
/// use es_core::{BoxError, Projector, feed::Feed};
/// use es_dynamo::publishers::KinesisPublisher;
///
/// # async fn example(store: impl Feed, client: aws_sdk_kinesis::Client) -> Result<(), BoxError> {
/// let publisher = KinesisPublisher::new(client, "orders");
/// let publishing = Publishing::new("to_kinesis", publisher, CloudEvents::source("https://shop.example/orders")?);
/// Projector::new(store, publishing).run().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Order
///
/// PutRecords does not preserve the order of its records if some of them fail, and two requests within a short time may
/// get sequence numbers in either order
/// ([PutRecords](https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html),
/// [PutRecord](https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html)). Therefore, a request never
/// contains two records of one stream, and the next record of a stream is sent after the previous one was accepted. If
/// that was less than 10 seconds ago, it is sent with PutRecord and the previous sequence number. All other records are
/// sent together with PutRecords. [`relaxed_order`](Self::relaxed_order) always uses PutRecords.
///
/// # Partition keys
///
/// Kinesis allows 256 characters. If the name of a stream is longer, its last 256 characters are the partition key.
pub struct KinesisPublisher {
    client: Client,
    stream: String,
    record_limit: usize,
    recent: Option<Recent>,
}

impl KinesisPublisher {
    /// Returns a publisher to the data stream with this name or ARN.
    #[must_use]
    pub fn new(client: Client, stream: impl Into<String>) -> Self {
        let mut config = client.config().to_builder();
        config.push_interceptor(attempts::interceptor());
        let client = Client::from_conf(config.build());
        Self { client, stream: stream.into(), record_limit: RECORD_BYTES, recent: Some(Recent::default()) }
    }

    /// Returns a publisher to the data stream, with a client from the environment and the timeouts of
    /// [`DynamoStore::from_env`](crate::DynamoStore::from_env).
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    pub async fn from_env(stream: impl Into<String>) -> Self {
        Self::new(Client::new(&services::from_env(default_timeouts()).await), stream)
    }

    /// Returns a client of a Kinesis-compatible server at `url`, without credentials, for tests.
    #[cfg(feature = "aws")]
    #[cfg_attr(docsrs, doc(cfg(feature = "aws")))]
    #[must_use]
    pub fn client_at(url: impl Into<String>) -> Client {
        Client::new(&services::at(url, default_timeouts()))
    }

    /// Sets the maximum size of a record in bytes, including its partition key (default: 1 MiB, at most 10 MiB). The
    /// data stream must be configured for it.
    #[must_use]
    pub fn record_limit(mut self, bytes: usize) -> Self {
        self.record_limit = bytes.min(MAX_RECORD_BYTES);
        self
    }

    /// Uses PutRecords for all records. This is slightly faster if a stream has many events at once, but AWS does not
    /// guarantee the order of records of a stream that are accepted within a short time.
    #[must_use]
    pub fn relaxed_order(mut self) -> Self {
        self.recent = None;
        self
    }

    fn name(&self) -> Option<String> {
        (!self.stream.starts_with("arn:")).then(|| self.stream.clone())
    }

    fn arn(&self) -> Option<String> {
        self.stream.starts_with("arn:").then(|| self.stream.clone())
    }

    fn destination(&self) -> Destination<'_> {
        Destination {
            kind: "data stream",
            name: &self.stream,
            permissions: "kinesis:PutRecords and kinesis:PutRecord",
            missing: &["ResourceNotFound"],
            permanent: &["InvalidArgument", "Serialization", "Validation"],
        }
    }

    /// Sends records of different streams.
    async fn put_records(
        &self,
        envelopes: &[&Envelope],
    ) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let mut records = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let record = PutRecordsRequestEntry::builder().data(Blob::new(envelope.body()));
            let record = record.partition_key(partition_key(envelope)).build();
            records.push(record.map_err(PublishError::permanent)?);
        }
        let request = self.client.put_records().set_stream_name(self.name()).set_stream_arn(self.arn());
        let output = watched(request.set_records(Some(records)).send()).await;
        let output = output.map_err(|failed| self.destination().error(failed))?;
        let outcomes = envelopes.iter().zip(output.records()).map(|(envelope, record)| {
            match (record.error_code(), record.sequence_number()) {
                (None, Some(number)) if !number.is_empty() => {
                    self.remember(envelope, number);
                    Ok(())
                }
                (code, _) => Err(self.destination().refused(code, record.error_message())),
            }
        });
        Ok(outcomes.collect())
    }

    /// Sends a record that must follow the one with the sequence number `after`.
    async fn put_record(&self, envelope: &Envelope, after: String) -> Result<(), PublishError> {
        let request = self.client.put_record().set_stream_name(self.name()).set_stream_arn(self.arn());
        let request = request.partition_key(partition_key(envelope)).data(Blob::new(envelope.body()));
        match watched(request.sequence_number_for_ordering(after).send()).await {
            // Every response has a sequence number. The SDK replaces a missing one by an empty one.
            Ok(output) if output.sequence_number().is_empty() => Err(self.destination().refused(None, None)),
            Ok(output) => {
                self.remember(envelope, output.sequence_number());
                Ok(())
            }
            Err(failed) => {
                let invalid = failed.error.code() == Some("InvalidArgumentException");
                let error = self.destination().error(failed);
                match &self.recent {
                    // The sequence number may be of a shard that no longer exists, so the retry does not use it.
                    Some(recent) if invalid => {
                        recent.forget(envelope.stream());
                        Err(PublishError::transient(error.to_string()))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    fn remember(&self, envelope: &Envelope, sequence_number: &str) {
        if let Some(recent) = &self.recent {
            recent.remember(envelope.stream(), sequence_number);
        }
    }
}

#[async_trait]
impl Publisher for KinesisPublisher {
    fn system(&self) -> &'static str {
        "aws_kinesis"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
            .envelopes(MAX_RECORDS)
            .bytes(REQUEST_BYTES.max(self.record_limit))
            .envelope_bytes(self.record_limit)
    }

    fn size(&self, envelope: &Envelope) -> usize {
        partition_key(envelope).len() + envelope.body().len()
    }

    async fn publish(&self, batch: &[Envelope]) -> Result<Vec<Result<(), PublishError>>, PublishError> {
        let (mut together, mut places) = (Vec::new(), Vec::new());
        let mut single: Vec<BoxFuture<'_, _>> = Vec::new();
        for (place, envelope) in batch.iter().enumerate() {
            match self.recent.as_ref().and_then(|recent| recent.number(envelope.stream())) {
                Some(after) => {
                    single
                        .push(self.put_record(envelope, after).map(move |outcome| (place, outcome)).boxed());
                }
                None => {
                    places.push(place);
                    together.push(envelope);
                }
            }
        }
        let many = async {
            if together.is_empty() {
                return Vec::new();
            }
            let outcomes = self.put_records(&together).await;
            outcomes.unwrap_or_else(|error| vec![Err(error); together.len()])
        };
        let single = stream::iter(single).buffer_unordered(MAX_CONCURRENT).collect::<Vec<_>>();
        let (many, single) = join(many, single).await;

        let mut outcomes =
            vec![Err(PublishError::transient("the response has too few records")); batch.len()];
        for (place, outcome) in places.into_iter().zip(many).chain(single) {
            outcomes[place] = outcome;
        }
        Ok(outcomes)
    }
}

/// Returns the name of the stream or, if it is too long, its end, where ids differ.
fn partition_key(envelope: &Envelope) -> &str {
    let name = envelope.stream().as_str();
    match name.char_indices().rev().nth(MAX_KEY_CHARS - 1) {
        Some((start, _)) => &name[start..],
        None => name,
    }
}

impl fmt::Debug for KinesisPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisPublisher")
            .field("stream", &self.stream)
            .field("record_limit", &self.record_limit)
            .field("relaxed_order", &self.recent.is_none())
            .finish_non_exhaustive()
    }
}

/// How long the sequence number of a record is kept. Sequence numbers increase with the time between requests, but AWS
/// does not specify the minimum time between two requests for which this is guaranteed.
const RECENTLY: Duration = Duration::from_secs(10);

/// The number of entries above which outdated entries are removed.
const MANY: usize = 10_000;

/// The sequence numbers of the last records of streams.
#[derive(Debug, Default)]
struct Recent {
    last: Mutex<HashMap<StreamId, (String, Instant)>>,
}

impl Recent {
    /// Returns the sequence number of the last record of a stream, if it was sent recently.
    fn number(&self, stream: &StreamId) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(stream).filter(|(_, at)| at.elapsed() < RECENTLY).map(|(number, _)| number.clone())
    }

    fn remember(&self, stream: &StreamId, number: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MANY {
            last.retain(|_, (_, at)| at.elapsed() < RECENTLY);
        }
        if last.len() >= 10 * MANY {
            // Limits memory use. The order of a few records may be lost.
            last.clear();
        }
        last.insert(stream.clone(), (number.to_owned(), Instant::now()));
    }

    fn forget(&self, stream: &StreamId) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(stream);
    }
}
