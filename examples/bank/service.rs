//! What the bank does for a client: commands with all that accompanies them.

use std::sync::Arc;

use es_core::{
    Context, EventStore, Events, ExecuteError, Handle, Metadata, Outcome, Repository, RetryPolicy,
    Transaction, TransactionError, Version,
};
use uuid::Uuid;

use crate::domain::{Account, AccountError, AccountId, Money, ReceiveTransfer, SendTransfer};

/// The accounts, and the store that they are in.
#[derive(Clone, Debug)]
pub struct Bank {
    /// All the accounts.
    pub accounts: Repository<Account>,
    store: Arc<dyn EventStore>,
    retry: RetryPolicy,
}

/// Who asks, and how it is to be carried out.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// What the events record besides themselves.
    pub metadata: Metadata,
    /// What the client's key comes to, when it is to be carried out once.
    pub key: Option<Uuid>,
    /// What the client expects of the account.
    pub expected: Expected,
}

/// The versions that an account may have for a command to be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Any.
    #[default]
    Any,
    /// One of these.
    OneOf(Vec<Version>),
}

/// A command for an account at a version that the client has seen.
///
/// When another writer comes first, it is decided again, like any command, and now finds another version.
pub struct Expecting {
    expected: Expected,
    decide: Decide,
}

/// What a command comes to. Boxed, because an implementation for all commands that asks for another one's would
/// send the compiler from one `Expecting` to the next.
type Decide = Box<dyn Fn(&Account, &Context<Account>) -> Result<Events<Account>, AccountError> + Send + Sync>;

impl Expecting {
    /// `command`, at a version that is `expected`.
    pub fn new<C>(expected: Expected, command: C) -> Self
    where
        Account: Handle<C, Error = AccountError>,
        C: Send + Sync + 'static,
    {
        Self { expected, decide: Box::new(move |account, ctx| account.handle(&command, ctx)) }
    }
}

/// Why the bank did not carry out a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The account has gone on since the client saw it.
    #[error("the account is at version {version}")]
    Outdated {
        /// The version that it has.
        version: Version,
    },
    /// The domain says no.
    #[error(transparent)]
    Domain(#[from] AccountError),
}

impl Handle<Expecting> for Account {
    type Error = Refusal;

    fn handle(&self, command: &Expecting, ctx: &Context<Self>) -> Result<Events<Self>, Refusal> {
        // An account that does not exist is no matter of versions: the domain says that there is none.
        if let Expected::OneOf(versions) = &command.expected
            && ctx.exists()
            && !versions.contains(&ctx.version())
        {
            return Err(Refusal::Outdated { version: ctx.version() });
        }
        Ok((command.decide)(self, ctx)?)
    }
}

impl Bank {
    /// The bank whose accounts are in `store`.
    pub fn new(store: impl EventStore) -> Self {
        Self::with_retry(store, RetryPolicy::default())
    }

    /// The same, with a policy of its own for how often to try again.
    pub fn with_retry(store: impl EventStore, retry: RetryPolicy) -> Self {
        let store: Arc<dyn EventStore> = Arc::new(store);
        let accounts = Repository::builder(Arc::clone(&store)).retry(retry).build();
        Self { accounts, store, retry }
    }

    /// Carries out a command on one account.
    pub async fn execute<C>(
        &self,
        id: AccountId,
        command: C,
        wish: &Wish,
    ) -> Result<Outcome<Account>, ExecuteError<Refusal>>
    where
        Account: Handle<C, Error = AccountError>,
        C: Send + Sync + 'static,
    {
        let mut request = self.accounts.with(wish.metadata.clone());
        if let Some(key) = &wish.key {
            request = request.once(*key);
        }
        let command = Expecting::new(wish.expected.clone(), command);
        request.execute::<Expecting>(&id, command).await
    }

    /// Moves money from one account to another: both accounts record it, or none. Gives what became of the first
    /// one, which is also the one that the client expects something of.
    pub async fn transfer(
        &self,
        from: AccountId,
        to: AccountId,
        amount: Money,
        wish: &Wish,
    ) -> Result<Outcome<Account>, TransactionError> {
        let transfer = Uuid::now_v7();
        let send = Expecting::new(wish.expected.clone(), SendTransfer { transfer, to, amount });
        let receive = Expecting::new(Expected::Any, ReceiveTransfer { transfer, from, amount });
        let mut transaction = Transaction::new(&self.store)
            .with(wish.metadata.clone())
            .retry(self.retry)
            .execute(&self.accounts, &from, send)
            .execute(&self.accounts, &to, receive);
        if let Some(key) = &wish.key {
            transaction = transaction.once(*key);
        }
        let committed = transaction.commit().await?;
        Ok(committed.outcome(&from).expect("the account has a part in the transaction").clone())
    }
}
