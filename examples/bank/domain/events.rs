//! Events: what happened to an account. They are stored permanently, so they hold facts, not instructions.
//!
//! That is why the number is plain text here: a rule for numbers may change, and what was opened under the old
//! one stays readable.

use es_core::event;
use uuid::Uuid;

use super::{AccountId, Money};

/// Somebody opened the account.
#[event]
pub struct AccountOpened {
    /// Who.
    pub owner: String,
    /// The number that it got.
    pub number: String,
}

/// Money came in.
#[event]
pub struct Deposited {
    /// How much.
    pub amount: Money,
}

/// Money went out.
#[event]
pub struct Withdrawn {
    /// How much.
    pub amount: Money,
}

/// Money went to another account.
#[event]
pub struct TransferSent {
    /// The transfer, which the other account records too.
    pub transfer: Uuid,
    /// The other account.
    pub to: AccountId,
    /// How much.
    pub amount: Money,
}

/// Money came from another account.
#[event]
pub struct TransferReceived {
    /// The transfer, which the other account records too.
    pub transfer: Uuid,
    /// The other account.
    pub from: AccountId,
    /// How much.
    pub amount: Money,
}

/// The account was closed.
#[event]
pub struct AccountClosed;
