//! The permissions that parts of the framework need on DynamoDB, S3, KMS, and brokers.

use std::collections::BTreeSet;

use clap::ValueEnum;

/// A part of the framework that sends requests to DynamoDB, S3, KMS, or a broker, for a policy with least privilege.
///
/// ```
/// use es_tools::policy::Feature;
///
/// assert!(Feature::Application.table_actions().contains(&"dynamodb:PutItem"));
/// assert!(Feature::Application.stream_actions().is_empty());
/// assert!(Feature::Indexer.stream_actions().contains(&"dynamodb:GetRecords"));
/// assert_eq!(Feature::Sqs.broker_actions(), ["sqs:SendMessage"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[non_exhaustive]
pub enum Feature {
    /// Commands, loads, projections, processes, read models, and publishing
    Application,
    /// `DynamoStore::verify_table`, which an application calls when it starts
    Verify,
    /// The indexer, and its reconciliations
    Indexer,
    /// Large events and snapshots in `S3Payloads`
    S3,
    /// `Reconciler::sweep_payloads`, which deletes orphans from `S3Payloads`
    PayloadSweep,
    /// Archives of streams in `S3Payloads`
    Archives,
    /// Personal data, whose keys are in a `DynamoKeyring`
    PersonalData,
    /// Personal data, with the master key in AWS KMS (`KmsMasterKey`)
    Kms,
    /// The rotation of the master key of personal data (`DynamoKeyring::rewrap`)
    KeyRotation,
    /// `EventBridgePublisher`, on the event bus
    #[value(name = "eventbridge")]
    EventBridge,
    /// `KinesisPublisher`, on the data stream
    Kinesis,
    /// `SnsPublisher`, on the topic
    Sns,
    /// `SqsPublisher`, on the queue
    Sqs,
}

impl Feature {
    /// Returns the actions on the table.
    #[must_use]
    pub fn table_actions(self) -> &'static [&'static str] {
        match self {
            Self::Application => &[
                "dynamodb:BatchGetItem",
                "dynamodb:ConditionCheckItem",
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
            ],
            Self::Verify => &[
                "dynamodb:DescribeContinuousBackups",
                "dynamodb:DescribeTable",
                "dynamodb:DescribeTimeToLive",
                "dynamodb:GetItem",
                "dynamodb:Query",
            ],
            Self::Indexer => &[
                "dynamodb:DeleteItem",
                "dynamodb:DescribeTable",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:Scan",
            ],
            Self::PayloadSweep => &["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan"],
            _ => &[],
        }
    }

    /// Returns the actions on the table's stream.
    #[must_use]
    pub fn stream_actions(self) -> &'static [&'static str] {
        match self {
            Self::Indexer => &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            _ => &[],
        }
    }

    /// Returns the actions on the bucket of `S3Payloads`. Without `s3:ListBucket`, S3 also denies access to missing
    /// objects.
    #[must_use]
    pub fn bucket_actions(self) -> &'static [&'static str] {
        match self {
            Self::S3 | Self::PayloadSweep | Self::Archives => &["s3:ListBucket"],
            _ => &[],
        }
    }

    /// Returns the actions on the objects in the bucket of `S3Payloads`.
    #[must_use]
    pub fn object_actions(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["s3:GetObject", "s3:PutObject"],
            Self::PayloadSweep => &["s3:DeleteObject"],
            Self::Archives => &["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            _ => &[],
        }
    }

    /// Returns the actions on the table of the keys of personal data.
    #[must_use]
    pub fn keys_actions(self) -> &'static [&'static str] {
        match self {
            Self::PersonalData | Self::Kms => &["dynamodb:BatchGetItem", "dynamodb:PutItem"],
            Self::KeyRotation => &["dynamodb:PutItem", "dynamodb:Scan"],
            _ => &[],
        }
    }

    /// Returns the actions on the master key, if it is in KMS.
    #[must_use]
    pub fn kms_actions(self) -> &'static [&'static str] {
        match self {
            Self::Kms => &["kms:Decrypt", "kms:GenerateDataKey"],
            Self::KeyRotation => &["kms:Decrypt", "kms:Encrypt"],
            _ => &[],
        }
    }

    /// Returns the actions of a publisher on its event bus, data stream, topic, or queue.
    #[must_use]
    pub fn broker_actions(self) -> &'static [&'static str] {
        match self {
            Self::EventBridge => &["events:DescribeEventBus", "events:PutEvents"],
            Self::Kinesis => &["kinesis:PutRecord", "kinesis:PutRecords"],
            Self::Sns => &["sns:Publish"],
            Self::Sqs => &["sqs:SendMessage"],
            _ => &[],
        }
    }

    /// Returns the broker's resource that the feature sends to.
    fn broker(self) -> Option<Broker> {
        let (id, name, snake_case) = match self {
            Self::EventBridge => ("EventBus", "event bus", "event_bus"),
            Self::Kinesis => ("DataStream", "data stream", "data_stream"),
            Self::Sns => ("Topic", "topic", "topic"),
            Self::Sqs => ("Queue", "queue", "queue"),
            _ => return None,
        };
        Some(Broker { id, name, snake_case, actions: self.broker_actions().iter().copied().collect() })
    }
}

/// The event bus, data stream, topic, or queue of a publisher, whose ARN is a parameter of the template.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The name in templates of CloudFormation, as in `EventBus`.
    pub(crate) id: &'static str,
    /// The name in text, as in `event bus`.
    pub(crate) name: &'static str,
    /// The name in modules of Terraform, as in `event_bus`.
    pub(crate) snake_case: &'static str,
    pub(crate) actions: BTreeSet<&'static str>,
}

/// The actions of several features, sorted. Those on resources that are not needed are empty.
#[derive(Debug)]
pub(crate) struct Actions {
    pub(crate) table: BTreeSet<&'static str>,
    pub(crate) stream: BTreeSet<&'static str>,
    pub(crate) bucket: BTreeSet<&'static str>,
    pub(crate) objects: BTreeSet<&'static str>,
    pub(crate) keys: BTreeSet<&'static str>,
    pub(crate) kms: BTreeSet<&'static str>,
    pub(crate) brokers: Vec<Broker>,
}

impl Actions {
    pub(crate) fn of(features: &[Feature]) -> Self {
        let all = |actions: fn(Feature) -> &'static [&'static str]| {
            features.iter().flat_map(|feature| actions(*feature)).copied().collect()
        };
        // A rotation needs KMS only if the master key is there.
        let kms = if features.contains(&Feature::Kms) { all(Feature::kms_actions) } else { BTreeSet::new() };
        let distinct: BTreeSet<_> = features.iter().copied().collect();
        Self {
            table: all(Feature::table_actions),
            stream: all(Feature::stream_actions),
            bucket: all(Feature::bucket_actions),
            objects: all(Feature::object_actions),
            keys: all(Feature::keys_actions),
            kms,
            brokers: distinct.into_iter().filter_map(Feature::broker).collect(),
        }
    }
}
