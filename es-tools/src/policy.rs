//! The permissions that parts of the framework need on DynamoDB.

use std::collections::BTreeSet;

use clap::ValueEnum;

/// A part of the framework that sends requests to DynamoDB, for a policy with least privilege.
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
        }
    }

    /// Returns the actions on the table's stream.
    #[must_use]
    pub fn stream_actions(self) -> &'static [&'static str] {
        match self {
            Self::Application | Self::Verify => &[],
            Self::Indexer => &["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
        }
    }
}

/// The actions of several features, sorted.
#[derive(Debug)]
pub(crate) struct Actions {
    pub(crate) table: BTreeSet<&'static str>,
    pub(crate) stream: BTreeSet<&'static str>,
}

impl Actions {
    pub(crate) fn of(features: &[Feature]) -> Self {
        Self {
            table: features.iter().flat_map(|feature| feature.table_actions()).copied().collect(),
            stream: features.iter().flat_map(|feature| feature.stream_actions()).copied().collect(),
        }
    }
}
