//! The domain: accounts, projections that sum their deposits, and a process that grants bonuses.
//!
//! There are two releases. In the new one, the event `Deposited` has a second version.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::process::Process;
use es_core::serde::{Deserialize, Serialize};
use es_postgres::PostgresStore;

/// The accounts that all processes share.
pub(crate) const ACCOUNTS: usize = 6;
/// The handles that the accounts compete for.
pub(crate) const HANDLES: u8 = 4;

/// The initial release.
pub(crate) mod old {
    use es_core::prelude::*;

    /// Money was deposited.
    #[event]
    pub(crate) struct Deposited {
        pub(crate) cents: u64,
        pub(crate) note: String,
    }

    impl Deposited {
        fn new(cents: u64, note: String) -> Self {
            Self { cents, note }
        }
    }

    include!("release.rs");
}

/// The release that replaces the initial one during a run.
pub(crate) mod new {
    use es_core::prelude::*;

    /// Money was deposited, as recorded by the old release.
    #[event]
    pub(crate) struct DepositedV1 {
        pub(crate) cents: u64,
        pub(crate) note: String,
    }

    /// Money was deposited.
    #[event(version = 2, previous = DepositedV1)]
    pub(crate) struct Deposited {
        pub(crate) cents: u64,
        pub(crate) note: String,
        pub(crate) currency: String,
    }

    impl From<DepositedV1> for Deposited {
        fn from(DepositedV1 { cents, note }: DepositedV1) -> Self {
            Self::new(cents, note)
        }
    }

    impl Deposited {
        fn new(cents: u64, note: String) -> Self {
            Self { cents, note, currency: "EUR".to_owned() }
        }
    }

    include!("release.rs");
}

/// A release of the domain.
pub(crate) trait Release: 'static {
    type Account: Account;
    type Totals: Projection;
    type Bonuses: Process;
    type Ledger: Projection;

    fn totals(feed: &Arc<dyn Feed>) -> Self::Totals;

    fn bonuses(accounts: Repository<Self::Account>) -> Self::Bonuses;

    fn ledger(store: &PostgresStore) -> Self::Ledger;
}

/// The account of any release.
pub(crate) trait Account:
    Aggregate<Id = String>
    + Clone
    + Handle<Deposit, Error = Refusal>
    + Handle<Withdraw, Error = Refusal>
    + Handle<TakeHandle, Error = Refusal>
{
    fn summary(&self) -> &Summary;
}

/// A summary of the state of an account, which differs between histories.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
pub(crate) struct Summary {
    pub(crate) cents: u64,
    pub(crate) handle: Option<String>,
    /// A digest of the notes of all events, in order.
    pub(crate) digest: u64,
}

/// Adds `note` to a digest of the previous notes.
pub(crate) fn digest(before: u64, note: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (before, note).hash(&mut hasher);
    hasher.finish()
}

/// Deposits a cent for each note.
#[derive(Clone, Debug)]
pub(crate) struct Deposit {
    pub(crate) notes: Vec<String>,
}

/// Withdraws a cent for each note, if the balance covers them.
#[derive(Clone, Debug)]
pub(crate) struct Withdraw {
    pub(crate) notes: Vec<String>,
}

/// Takes a handle, and releases the previous one.
#[derive(Clone, Debug)]
pub(crate) struct TakeHandle {
    pub(crate) handle: String,
    pub(crate) note: String,
}

/// The reason why an account rejects a withdrawal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    cents: u64,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the balance is only {} cents", self.cents)
    }
}

impl std::error::Error for Refusal {}

/// The deposits of one account.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "totals", key = account)]
pub(crate) struct Total {
    pub(crate) account: String,
    pub(crate) deposits: u64,
    pub(crate) cents: u64,
    /// A digest of their notes, in order.
    pub(crate) digest: u64,
}

/// Returns the name of a shared account.
pub(crate) fn account(index: usize) -> String {
    format!("shared-{index}")
}

/// Returns the name of the account that receives the bonuses of `account`.
pub(crate) fn bonus_account(account: &str) -> String {
    format!("bonus-{account}")
}

/// Returns whether the deposit with this note earns a bonus: the first one of each command does.
pub(crate) fn earns_bonus(account: &str, note: &str) -> bool {
    account.starts_with("shared-") && note.ends_with(".0")
}
