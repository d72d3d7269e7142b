//! The permissions that parts of the framework need on DynamoDB and KMS.

use std::collections::BTreeSet;

use clap::ValueEnum;

/// A part of the framework that sends requests to DynamoDB or KMS, for a policy with least privilege.
///
/// ```
/// use es_tools::policy::Feature;
///
/// assert!(Feature::Application.table_actions().contains(&"dynamodb:PutItem"));
/// assert!(Feature::Application.stream_actions().is_empty());
/// assert!(Feature::Indexer.stream_actions().contains(&"dynamodb:GetRecords"));
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
    /// Personal data, whose keys are in a `DynamoKeyring`
    PersonalData,
    /// Personal data, with the master key in AWS KMS (`KmsMasterKey`)
    Kms,
    /// The rotation of the master key of personal data (`DynamoKeyring::rewrap`)
    KeyRotation,
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
            Self::PersonalData | Self::Kms | Self::KeyRotation => &[],
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
}

/// The actions of several features, sorted. Those on resources that are not needed are empty.
#[derive(Debug)]
pub(crate) struct Actions {
    pub(crate) table: BTreeSet<&'static str>,
    pub(crate) stream: BTreeSet<&'static str>,
    pub(crate) keys: BTreeSet<&'static str>,
    pub(crate) kms: BTreeSet<&'static str>,
}

impl Actions {
    pub(crate) fn of(features: &[Feature]) -> Self {
        let all = |actions: fn(Feature) -> &'static [&'static str]| {
            features.iter().flat_map(|feature| actions(*feature)).copied().collect()
        };
        // A rotation needs KMS only if the master key is there.
        let kms = if features.contains(&Feature::Kms) { all(Feature::kms_actions) } else { BTreeSet::new() };
        Self {
            table: all(Feature::table_actions),
            stream: all(Feature::stream_actions),
            keys: all(Feature::keys_actions),
            kms,
        }
    }
}
