//! Events: what happened to an account. They are stored permanently, so they contain facts, not instructions.
//!
//! The number is plain text here, so that old events stay readable if the rule for account numbers changes.

use es_core::event;
use uuid::Uuid;

use super::{AccountId, Money};

/// The account was opened.
#[event]
pub struct AccountOpened {
    /// The owner's name.
    pub owner: String,
    /// The account number.
    pub number: String,
}

/// Money was deposited.
#[event]
pub struct Deposited {
    /// The amount.
    pub amount: Money,
}

/// Money was withdrawn.
#[event]
pub struct Withdrawn {
    /// The amount.
    pub amount: Money,
}

/// Money was transferred to another account.
#[event]
pub struct TransferSent {
    /// Identifies the transfer on both accounts.
    pub transfer: Uuid,
    /// The other account.
    pub to: AccountId,
    /// The amount.
    pub amount: Money,
}

/// Money was transferred from another account.
#[event]
pub struct TransferReceived {
    /// Identifies the transfer on both accounts.
    pub transfer: Uuid,
    /// The other account.
    pub from: AccountId,
    /// The amount.
    pub amount: Money,
}

/// The account was closed.
#[event]
pub struct AccountClosed;
