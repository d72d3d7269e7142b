//! The service: executes commands with the options of a request.

use std::sync::Arc;

use es_core::documents::Documents;
use es_core::read_model::AggregateIds;
use es_core::repository::TransactionError;
use es_core::{
    EventStore, ExecuteError, ExpectedVersion, Handle, Metadata, Outcome, Repository, RetryPolicy,
    StoreError, Transaction, Version,
};
use uuid::Uuid;

use crate::domain::{Account, AccountError, AccountId, Money, ReceiveTransfer, SendTransfer};

/// The bank: its accounts and their store.
#[derive(Clone, Debug)]
pub struct Bank {
    /// The accounts.
    pub accounts: Repository<Account>,
    /// The list of their ids. Its projection must be run.
    pub ids: AggregateIds<Account>,
    store: Arc<dyn EventStore>,
    retry: RetryPolicy,
}

/// The options of a request.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The metadata of the events.
    pub metadata: Metadata,
    /// The idempotency key, derived from the client's key, if there is one.
    pub key: Option<Uuid>,
    /// The versions that the client expects.
    pub expected: Expected,
}

/// A condition on the version of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Any version.
    #[default]
    Any,
    /// One of these versions.
    OneOf(Vec<Version>),
}

impl Bank {
    /// Creates the bank whose accounts are in `store`.
    pub fn new(store: impl EventStore + Documents + Clone) -> Self {
        Self::with_retry(store, RetryPolicy::default())
    }

    /// Like [`new`](Self::new), with another retry policy.
    pub fn with_retry(store: impl EventStore + Documents + Clone, retry: RetryPolicy) -> Self {
        let ids = AggregateIds::new(&store);
        let store: Arc<dyn EventStore> = Arc::new(store);
        let accounts = Repository::builder(Arc::clone(&store)).retry(retry).build();
        Self { accounts, ids, store, retry }
    }

    /// Executes a command on an account.
    pub async fn execute<C>(
        &self,
        id: AccountId,
        command: C,
        wish: &Wish,
    ) -> Result<Outcome<Account>, ExecuteError<AccountError>>
    where
        Account: Handle<C, Error = AccountError>,
        C: Send + Sync + 'static,
    {
        let expected = self.expected(id, wish).await?;
        let mut request = self.accounts.with_metadata(wish.metadata.clone()).expected_version(expected);
        if let Some(key) = &wish.key {
            request = request.once(*key);
        }
        request.execute(&id, command).await
    }

    /// Transfers money between two accounts atomically. Returns the outcome of the paying account, to which the
    /// expected version also applies.
    pub async fn transfer(
        &self,
        from: AccountId,
        to: AccountId,
        amount: Money,
        wish: &Wish,
    ) -> Result<Outcome<Account>, TransactionError> {
        let transfer = Uuid::now_v7();
        let mut transaction = Transaction::new(&self.store)
            .with_metadata(wish.metadata.clone())
            .retry(self.retry)
            .execute(&self.accounts, &from, SendTransfer { transfer, to, amount })
            .execute(&self.accounts, &to, ReceiveTransfer { transfer, from, amount })
            .expected_version(&self.accounts, &from, self.expected(from, wish).await?);
        if let Some(key) = &wish.key {
            transaction = transaction.once(*key);
        }
        let mut committed = transaction.commit().await?;
        Ok(committed.take_outcome(&from).expect("the account has a part in the transaction"))
    }

    /// Returns the expected version for the store: the current version if the client expects it, and otherwise one that
    /// fails.
    async fn expected(&self, id: AccountId, wish: &Wish) -> Result<ExpectedVersion, StoreError> {
        Ok(match &wish.expected {
            Expected::Any => ExpectedVersion::Any,
            Expected::OneOf(versions) if versions.len() == 1 => ExpectedVersion::Exact(versions[0]),
            Expected::OneOf(versions) => {
                let version = self.accounts.version(&id).await?;
                let expected = if versions.contains(&version) { version } else { Version::MAX };
                ExpectedVersion::Exact(expected)
            }
        })
    }
}
