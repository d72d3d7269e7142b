//! The libraries that are compared.

mod adapter;
mod dynamo_es;
mod raw;
mod this;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;

pub use es_benches::Failure;

use crate::domain::Account;

/// Returns the text of an error with its causes.
pub fn reason(failure: Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A library that executes commands on accounts, in the way that its documentation recommends.
#[async_trait]
pub trait Contender: Send + Sync {
    /// Executes one command with `events` events: loads the account, decides, and records the events.
    async fn execute(&self, id: &str, events: u64) -> Result<(), Failure>;

    /// Loads the account.
    async fn load(&self, id: &str) -> Result<Account, Failure>;

    /// Waits for background work.
    async fn settle(&self) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Raw,
    This,
    ThisSnapshots,
    ThisAdaptive,
    ThisEventual,
    ThisCache,
    DynamoEs,
    DynamoEsSnapshots,
    Adapter,
    AdapterSnapshots,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Raw,
        Self::This,
        Self::ThisSnapshots,
        Self::ThisAdaptive,
        Self::ThisEventual,
        Self::ThisCache,
        Self::DynamoEs,
        Self::DynamoEsSnapshots,
        Self::Adapter,
        Self::AdapterSnapshots,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw SDK loop",
            Self::This => "this framework",
            Self::ThisSnapshots => "this framework, snapshots",
            Self::ThisAdaptive => "this framework, adaptive snapshots",
            Self::ThisEventual => "this framework, snapshots, eventual reads",
            Self::ThisCache => "this framework, cache",
            Self::DynamoEs => "dynamo-es",
            Self::DynamoEsSnapshots => "dynamo-es, snapshots",
            Self::Adapter => "event-store-adapter-rs",
            Self::AdapterSnapshots => "event-store-adapter-rs, snapshots",
        }
    }

    /// Returns whether it loads from snapshots.
    pub fn has_snapshots(self) -> bool {
        matches!(self, Self::ThisSnapshots | Self::DynamoEsSnapshots | Self::AdapterSnapshots)
    }

    /// Returns whether its loads are identical to those of another contender, so that only its commands differ.
    pub fn loads_as_another(self) -> bool {
        matches!(self, Self::ThisAdaptive | Self::ThisEventual | Self::ThisCache)
    }

    /// Returns the layout of its events and snapshots.
    pub fn layout(self) -> Layout {
        match self {
            Self::Raw
            | Self::This
            | Self::ThisSnapshots
            | Self::ThisAdaptive
            | Self::ThisEventual
            | Self::ThisCache => Layout::Commits,
            Self::DynamoEs | Self::DynamoEsSnapshots => Layout::DynamoEs,
            Self::Adapter | Self::AdapterSnapshots => Layout::Adapter,
        }
    }

    /// Opens it on tables whose names start with `prefix`, and creates missing tables.
    pub async fn open(self, client: &Client, prefix: &str) -> Result<Arc<dyn Contender>, Failure> {
        self.layout().create(client, prefix).await?;
        self.connect(client, prefix).await
    }

    /// Opens it on existing tables.
    pub async fn connect(self, client: &Client, prefix: &str) -> Result<Arc<dyn Contender>, Failure> {
        Ok(match self {
            Self::Raw => Arc::new(raw::Raw::new(client, prefix)),
            Self::This => Arc::new(this::This::plain(client, prefix)?),
            Self::ThisSnapshots => Arc::new(this::This::with_snapshots(client, prefix)?),
            Self::ThisAdaptive => Arc::new(this::This::with_adaptive_snapshots(client, prefix)?),
            Self::ThisEventual => Arc::new(this::This::with_eventual_reads(client, prefix)?),
            Self::ThisCache => Arc::new(this::This::with_cache(client, prefix)?),
            Self::DynamoEs => Arc::new(dynamo_es::DynamoEs::plain(client, prefix)),
            Self::DynamoEsSnapshots => Arc::new(dynamo_es::DynamoEs::with_snapshots(client, prefix)),
            Self::Adapter => Arc::new(adapter::Adapter::plain(client, prefix).await?),
            Self::AdapterSnapshots => Arc::new(adapter::Adapter::with_snapshots(client, prefix).await?),
        })
    }
}

/// A layout of events and snapshots in tables. Several contenders may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Commits,
    DynamoEs,
    Adapter,
}

impl Layout {
    pub const ALL: [Self; 3] = [Self::Commits, Self::DynamoEs, Self::Adapter];

    /// Returns the names of its tables, which start with `prefix`.
    pub fn tables(self, prefix: &str) -> Vec<String> {
        let names: &[_] = match self {
            Self::Commits => &["commits"],
            Self::DynamoEs => &["Events", "Snapshots"],
            Self::Adapter => &["journal", "snapshot", "head"],
        };
        names.iter().map(|name| format!("{prefix}-{name}")).collect()
    }

    async fn create(self, client: &Client, prefix: &str) -> Result<(), Failure> {
        match self {
            Self::Commits => this::create(client, prefix).await,
            Self::DynamoEs => dynamo_es::create(client, prefix).await,
            Self::Adapter => adapter::create(client, prefix).await,
        }
    }

    /// Writes a stream of `events` events of separate commands, without the contender.
    pub async fn fill(self, client: &Client, prefix: &str, id: &str, events: u64) -> Result<(), Failure> {
        match self {
            Self::Commits => raw::fill(client, prefix, id, events).await,
            Self::DynamoEs => dynamo_es::fill(client, prefix, id, events).await,
            Self::Adapter => adapter::fill(client, prefix, id, events).await,
        }
    }

    /// Writes the snapshot that is due at the last event of such a stream.
    pub async fn fill_snapshot(
        self,
        client: &Client,
        prefix: &str,
        id: &str,
        events: u64,
    ) -> Result<(), Failure> {
        match self {
            Self::Commits => this::fill_snapshot(client, prefix, id, events).await,
            Self::DynamoEs => dynamo_es::fill_snapshot(client, prefix, id, events).await,
            Self::Adapter => adapter::fill_snapshot(client, prefix, id, events).await,
        }
    }
}
